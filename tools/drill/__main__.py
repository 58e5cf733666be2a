"""`python -m tools.drill`: run the scenarios and print what each did, what was checked, and what did not hold."""

import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import click
from rich.console import Console
from rich.table import Table

from tools.drill.drill import Drill, Sheet
from tools.drill.harness import Harness
from tools.drill.scenarios import QUICK, SCENARIOS
from tools.drill.twin import Twin


@click.command()
@click.option("--quick", "is_quick", is_flag=True, help="A handful of kills, and the scenarios that CI has time for.")
@click.option("--kills", "num_kills", type=click.IntRange(min=1), default=16, help="Kills at random moments.")
@click.option("--jobs", "num_jobs", type=click.IntRange(min=1), default=2, help="Scenarios at once.")
@click.option("--seed", type=int, default=1, help="Repeats the drill's choices.")
@click.option("--only", type=click.Choice(list(SCENARIOS)), multiple=True, help="Only these scenarios.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the results here too.")
@click.option("--folder", type=click.Path(path_type=Path), help="Work here and leave everything; must not exist.")
def main(
    is_quick: bool,
    num_kills: int,
    num_jobs: int,
    seed: int,
    only: tuple[str, ...],
    json_path: Path | None,
    folder: Path | None,
) -> None:
    """Break workers in every way that a night can bring, and check that nothing is lost or done twice."""
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="drill-") as temporary, ThreadPoolExecutor(num_jobs) as pool:
        harness = Harness(folder or Path(temporary) / "drill")
        harness.ingest()
        twin = Twin(harness)

        def run(name: str) -> Sheet:
            # Choices of its own, so that a scenario alone makes those that it makes among all.
            drill = Drill(harness, twin, is_quick, num_kills, Random(f"{seed} {name}"), Sheet(name))
            sheet = drill.run(SCENARIOS[name])
            _print_sheet(console, sheet)
            return sheet

        sheets = list(pool.map(run, only or (QUICK if is_quick else tuple(SCENARIOS))))
    console.print(_table(sheets))
    if json_path is not None:
        # `vars`, since `asdict` makes a Counter out of the pairs of a Counter.
        json_path.write_text(json.dumps([vars(sheet) for sheet in sheets], indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if any(sheet.violations for sheet in sheets) else 0)


def _print_sheet(console: Console, sheet: Sheet) -> None:
    """Print one scenario as soon as it is over; all of them take minutes."""
    counts = ", ".join(f"{number} {what}" for what, number in sheet.counts.items())
    console.print(f"{sheet.scenario}: {sheet.word} in {sheet.seconds:.0f} s. {counts}", highlight=False)
    for sentence in sheet.violations:
        console.print(f"  {sentence}", style="red", highlight=False, markup=False)


def _table(sheets: list[Sheet]) -> Table:
    table = Table("scenario", "attempts", "kills", "checks", "violations", "seconds", "result", title="The drill")
    for sheet in sheets:
        numbers = (sheet.counts["attempts"], sheet.counts["kills"], sheet.checked.total(), len(sheet.violations))
        table.add_row(sheet.scenario, *map(str, numbers), f"{sheet.seconds:.0f}", sheet.word)
    return table


if __name__ == "__main__":
    main()
