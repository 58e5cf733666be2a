from pathlib import Path

import pytest

from core.errors import ConfigError
from pipeline.config import load_config
from pipeline.policies import TriggerOptions

FLIGHTS = Path("conf/flights.yaml")


def test_defaults_run_every_span_and_follow_requests():
    options = TriggerOptions()
    assert [policy.trigger.kind for policy in options.policies] == ["manual", "new_span"]
    assert (options.min_interval_seconds, options.catch_up, options.overlap) == (300, "all", "queue")


def test_every_part_of_a_policy_is_read_from_the_config():
    text = "{name: nightly, trigger: {kind: cron, expression: '0 3 * * *', timezone: Europe/Berlin}, select: latest, "
    text += "initialisation: cold, action: train}"
    (policy,) = load_config(FLIGHTS, (f"triggers.policies=[{text}]",)).triggers.policies
    assert (policy.name, policy.select, policy.initialisation, policy.action) == ("nightly", "latest", "cold", "train")
    assert policy.trigger.timezone == "Europe/Berlin"


def _policy(trigger: str = "{kind: new_span}", **parts: str) -> str:
    fields = {"name": "p", "trigger": trigger, **parts}
    return "{" + ", ".join(f"{key}: {value}" for key, value in fields.items()) + "}"


def _cron(expression: str, timezone: str = "UTC") -> str:
    return _policy(f"{{kind: cron, expression: '{expression}', timezone: {timezone}}}")


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ([], r"at least 1 item after validation, not 0; received \[\]"),
        ([_policy("{kind: crom}")], r"'cron', 'new_span'.*'manual'; received"),
        ([_cron("0 0 0 * * *")], r"five cron fields.*received '0 0 0 \* \* \*' \(wrong number of fields\)"),
        ([_cron("61 * * * *")], r"five cron fields.*received '61 \* \* \* \*' \(Bad minute\)"),
        ([_cron("0 0 30 2 *")], r"received '0 0 30 2 \*' \(Bad day-of-month\)"),
        ([_cron("0 0 * * *", "Mars/Base")], r"expected a time zone such as 'Europe/Berlin'.*received 'Mars/Base'"),
        ([_policy(select="done")], r"select: done with action: shadow.*received select='done' with action='train'"),
        ([_policy(action="shadow")], r"received select='next' with action='shadow'"),
        ([_policy(action="score", initialisation="cold")], r"with action: train alone.*'cold' with action='score'"),
        ([_policy(name="shadow")], r"another name than 'shadow', which marks.*received action='train'"),
        ([_policy(name="Nightly!")], r"name: String should match pattern.*received 'Nightly!'"),
        ([_policy(), _policy()], r"policies with names of their own; received \['p', 'p'\]"),
        (
            [_policy("{kind: manual}"), _policy("{kind: manual}", name="q")],
            r"one policy at most with trigger manual.*received \['p', 'q'\]",
        ),
        ([_policy("{kind: decay, max_decay: 0}")], r"max_decay: Input should be greater than 0; received 0"),
        ([_policy("{kind: labels_complete, maturity: 3}")], r"maturity: unknown key\. Did you mean 'maturity_seconds'"),
    ],
)  # fmt: skip
def test_wrong_policy_says_what_was_expected_and_received(policies, message):
    with pytest.raises(ConfigError, match=message):
        load_config(FLIGHTS, (f"triggers.policies=[{', '.join(policies)}]",))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("triggers.overlap=drop", r"triggers\.overlap: Input should be 'queue', 'skip' or 'replace'; received 'drop'"),
        ("triggers.catch_up=some", r"triggers\.catch_up: .*'all', 'latest' or 'none'; received 'some'"),
        ("triggers.min_intervall_seconds=3", r"unknown key\. Did you mean 'min_interval_seconds'"),
        ("triggers.adaptive.stable_spans=0", r"stable_spans: .*greater than or equal to 1; received 0"),
        ("triggers.daily_compute_seconds=0", r"daily_compute_seconds: .*greater than 0; received 0"),
    ],
)
def test_wrong_option_says_what_was_expected_and_received(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(FLIGHTS, (override,))
