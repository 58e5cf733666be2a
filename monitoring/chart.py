"""The chart of scores per span, as HTML with plotly's script in it. Colours of text and grid are the page's."""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from monitoring.span_point import SpanPoint

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
        line = {"color": color, "dash": dash, "width": 2.5}
        trace = go.Scatter(x=labels, y=scores, name=name, mode="lines+markers", line=line, marker={"size": 7})
        figure.add_trace(trace.update(hovertemplate=f"{name}: %{{y:.4f}}<extra></extra>"), row=1, col=1)
    figure.add_trace(_pushes(spans), row=1, col=1)
    for trace in _drift(spans):
        figure.add_trace(trace, row=2, col=1)
    figure.update_layout(
        height=460,
        margin={"l": 70, "r": 20, "t": 10, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="x unified",
    )
    # A category stays where it is even if no line has a value there.
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=labels, showgrid=False)
    figure.update_yaxes(title_text=metric, row=1, col=1, zeroline=False)
    figure.update_yaxes(title_text="drift", showticklabels=False, showgrid=False, zeroline=False, row=2, col=1)
    config = {"displayModeBar": False, "responsive": True}
    return str(figure.to_html(full_html=False, include_plotlyjs=True, config=config, div_id="scores"))


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
