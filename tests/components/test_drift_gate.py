from pathlib import Path

import pytest

from components.drift_gate import DriftGate
from schemas.artifacts import DriftVerdict
from schemas.drift import Bounds, DriftOptions, FeatureDrift
from schemas.features import FeatureSet
from schemas.provenance import DRIFT_VERDICT
from schemas.verdicts import DRIFT_REPORT_FILE, DriftReport, Verdict

FEATURE_SET = FeatureSet.model_validate(
    {"features": {"carrier": {"kind": "vocabulary"}, "delay": {"kind": "numeric"}}, "label": {"name": "late"}}
)
COLUMNS = {"carrier": ["AA", "UA"] * 50, "delay": [float(n) for n in range(100)], "late": [0, 1] * 50}
OTHER = COLUMNS | {"carrier": ["AA", "ZZ"] * 50}


@pytest.fixture
def judge(make_artifact, make_anomalies, make_statistics):
    def judge(columns, *, anomalies=None, options=None, **baselines):
        verdict = make_artifact(DriftVerdict, "verdict")
        DriftGate.test_call(
            statistics=make_statistics("now", columns),
            anomalies=make_anomalies(**(anomalies or {})),
            verdict=verdict,
            feature_set=FEATURE_SET.model_dump_json(),
            options=(options or DriftOptions()).model_dump_json(),
            **{f"{against}_statistics": make_statistics(against, then) for against, then in baselines.items()},
        )
        report = DriftReport.model_validate_json((Path(verdict.uri) / DRIFT_REPORT_FILE).read_text())
        assert verdict.get_int_custom_property(DRIFT_VERDICT) == Verdict[report.verdict.upper()]
        return report

    return judge


def test_first_span_has_nothing_to_be_compared_with_and_passes(judge):
    report = judge(COLUMNS)
    assert report.verdict == "pass"
    missing = {finding.against for finding in report.findings if finding.measure == "comparison"}
    assert missing == {"previous", "reference"}


def test_same_data_passes_against_both_baselines(judge):
    report = judge(COLUMNS, previous=COLUMNS, reference=COLUMNS)
    assert report.verdict == "pass"
    assert {finding.against for finding in report.findings if finding.feature == "carrier"} == {"previous", "reference"}


@pytest.mark.parametrize("against", ["previous", "reference"])
def test_drift_is_found_against_the_baseline_that_has_it(judge, against):
    baselines = {"previous": COLUMNS, "reference": COLUMNS} | {against: OTHER}
    bounds = FeatureDrift(distance=Bounds(cold_start=0.4), new_values=Bounds())
    report = judge(COLUMNS, options=DriftOptions(default=bounds), **baselines)
    assert report.verdict == "cold_start"
    worst = [finding for finding in report.findings if finding.verdict == "cold_start"]
    assert [(finding.feature, finding.measure, finding.against) for finding in worst] == [
        ("carrier", "l_infinity", against)
    ]
    assert worst[0].value == pytest.approx(0.5)


@pytest.mark.parametrize("split", ["train", "eval"])
def test_schema_anomaly_of_either_split_blocks(judge, split):
    report = judge(COLUMNS, anomalies={split: ["carrier"]})
    assert report.verdict == "block"
    (finding,) = (finding for finding in report.findings if finding.verdict == "block")
    assert f"Unexpected values of carrier in {split}." in finding.sentence


def test_severity_of_an_anomaly_is_the_configs(judge):
    options = DriftOptions(anomalies={"ENUM_TYPE_UNEXPECTED_STRING_VALUES": "warn"})
    assert judge(COLUMNS, anomalies={"train": ["carrier"]}, options=options).verdict == "warn"
