from pathlib import Path

import yaml

from pipeline.config import load_config


def test_every_default_of_the_flights_config_is_the_reviewed_one(check_golden):
    resolved = load_config(Path("conf/flights.yaml")).model_dump(mode="json")
    check_golden("config-flights.yaml", yaml.safe_dump(resolved, sort_keys=False, width=120))
