"""The charts of scores per span, as HTML; the first has plotly's script. Colours of text and grid are the page's."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from monitoring.prequential import fading_averages, sliding_means
from monitoring.span_point import SpanPoint
from schemas.scores import PrequentialOptions

# Wong, "Points of view: Color blindness", Nature Methods 2011: told apart with any colour vision. Every line also has
# a dash and every verdict a symbol of its own.
_BLUE, _ORANGE, _GREEN, _PURPLE, _GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C8C8C"
_VERDICTS = {
    "pass": (_GREEN, "circle"),
    "warn": ("#E69F00", "triangle-up"),
    "cold_start": (_PURPLE, "diamond"),
    "block": (_ORANGE, "x"),
}


def chart_html(spans: Sequence[SpanPoint], metric: str) -> str:
    """Return a `<div>` with the scores of candidate, champion and first model, the pushes, and drift below."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.88, 0.12], vertical_spacing=0.04)
    # Spans that only were in a cold start's window have no score of their own.
    spans = [point for point in spans if point.candidate is not None or point.drift is not None]
    labels = [point.label for point in spans]
    for name, scores, color, dash in (
        ("candidate", [point.candidate for point in spans], _BLUE, "solid"),
        ("champion before the cycle", [point.champion for point in spans], _ORANGE, "dash"),
        ("first model, never retrained", [point.first for point in spans], _GREY, "dot"),
    ):
        figure.add_trace(_line(labels, scores, name, color, dash), row=1, col=1)
    figure.add_trace(_pushes(spans), row=1, col=1)
    for trace in _drift(spans):
        figure.add_trace(trace, row=2, col=1)
    # A category stays where it is even if no line has a value there.
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=labels, showgrid=False)
    figure.update_yaxes(title_text=metric, row=1, col=1, zeroline=False)
    figure.update_yaxes(title_text="drift", showticklabels=False, showgrid=False, zeroline=False, row=2, col=1)
    return _html(figure, "scores", height=460, has_script=True)


def prequential_chart_html(spans: Sequence[SpanPoint], metric: str, options: PrequentialOptions) -> str:
    """Return a `<div>` with the prequential score of each span that has one, its sliding mean and fading average."""
    scored = [(point.label, point.prequential) for point in spans if point.prequential is not None]
    labels, scores = [label for label, _ in scored], [score for _, score in scored]
    window = f"mean of the last {options.window_spans} spans"
    faded = f"fading average, factor {options.fading_factor:g}"
    figure = go.Figure(
        [
            _line(labels, scores, "score on the new span", _GREY, "dot"),
            _line(labels, sliding_means(scores, options.window_spans), window, _BLUE, "solid"),
            _line(labels, fading_averages(scores, options.fading_factor), faded, _ORANGE, "dash"),
        ]
    )
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(title_text=metric, zeroline=False)
    return _html(figure, "prequential", height=320)


def older_spans_chart_html(by_span: Mapping[int, tuple[float, float]], labels: Mapping[int, str], metric: str) -> str:
    """Return a `<div>` with the candidate's and the champion's score on each older span."""
    spans = sorted(by_span)
    names = [labels.get(span, f"span {span}") for span in spans]
    figure = go.Figure(
        [
            _line(names, [by_span[span][0] for span in spans], "candidate", _BLUE, "solid"),
            _line(names, [by_span[span][1] for span in spans], "champion before the cycle", _ORANGE, "dash"),
        ]
    )
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(title_text=metric, zeroline=False)
    return _html(figure, "older", height=280)


def _line(labels: Sequence[str], scores: Sequence[float | None], name: str, color: str, dash: str) -> go.Scatter:
    line = {"color": color, "dash": dash, "width": 2.5}
    trace = go.Scatter(x=labels, y=scores, name=name, mode="lines+markers", line=line, marker={"size": 7})
    return trace.update(hovertemplate=f"{name}: %{{y:.4f}}<extra></extra>")


def _html(figure: go.Figure, name: str, *, height: int, has_script: bool = False) -> str:
    figure.update_layout(
        height=height,
        margin={"l": 70, "r": 20, "t": 10, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="x unified",
    )
    config = {"displayModeBar": False, "responsive": True}
    return str(figure.to_html(full_html=False, include_plotlyjs=has_script, config=config, div_id=name))


def _pushes(spans: Sequence[SpanPoint]) -> go.Scatter:
    pushed = [point for point in spans if point.pushed_version is not None and point.candidate is not None]
    return go.Scatter(
        x=[point.label for point in pushed],
        y=[point.candidate for point in pushed],
        text=[f"v{point.pushed_version}" for point in pushed],
        name="pushed to serving",
        mode="markers+text",
        textposition="top center",
        marker={"symbol": "star", "size": 15, "color": _BLUE, "line": {"width": 1, "color": "white"}},
        hovertemplate="pushed as %{text}<extra></extra>",
    )


def _drift(spans: Sequence[SpanPoint]) -> list[go.Scatter]:
    traces = []
    for word, (color, symbol) in _VERDICTS.items():
        labels = [point.label for point in spans if point.drift == word]
        traces.append(
            go.Scatter(
                x=labels,
                y=[0] * len(labels),
                name=f"drift: {word.replace('_', ' ')}",
                mode="markers",
                marker={"symbol": symbol, "size": 12, "color": color},
                hovertemplate=f"drift: {word.replace('_', ' ')}<extra></extra>",
                showlegend=bool(labels),
            )
        )
    return traces
