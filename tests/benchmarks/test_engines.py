from pathlib import Path

from benchmarks.engines import section_lines

MEASURED = {"seconds": 2.0, "peak_mib": 1234, "load": 0.1}


def test_table_is_in_order_and_says_what_was_not_measured(tmp_path: Path):
    cells = {
        "Transform/20000/in_process": {**MEASURED, "cpu_seconds": 9.0},
        "StatisticsGen/200000/beam, in_memory": {"limit": 1800, "peak_mib": 999, "load": 0.2},
        "StatisticsGen/20000/beam, flink x2": {"not_measured": "mvn could not fetch what Flink needs"},
        "StatisticsGen/20000/beam, in_memory": {**MEASURED, "cpu_seconds": 4.0},
        "StatisticsGen/20000/in_process": {**MEASURED, "cpu_seconds": 2.0},
    }
    lines = [line for line in section_lines(tmp_path, cells) if line.startswith(("| Stat", "| Tra"))]
    assert lines == [
        "| StatisticsGen | 20,000 | in_process | 2.0 | 2.0 | 1,234 | 0.1 |",
        "| StatisticsGen | 20,000 | beam, in_memory | 2.0 | 4.0 | 1,234 | 0.1 |",
        "| StatisticsGen | 20,000 | beam, flink x2 | not measured: mvn could not fetch what Flink needs | | | |",
        "| StatisticsGen | 200,000 | beam, in_memory | > 1800 | | 999 | 0.2 |",
        "| Transform | 20,000 | in_process | 2.0 | 9.0 | 1,234 | 0.1 |",
        "| StatisticsGen | 20,000 | in_process | 1.00 |",
    ]
