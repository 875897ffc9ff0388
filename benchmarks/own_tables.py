"""Trains a pipeline for each of four tables with one command, and compares it with networks trained one by one.

    python benchmarks/own_tables.py --output_path docs/measurements/own_tables.json

The tables are scikit-learn's wine, breast cancer and diabetes, and one of 20,000 rows that resembles its California
housing. Each is written as a CSV file, and `nnit train TABLE --target COLUMN` does all the rest. The result has the
minutes of every run, and the scores on architectures that training never used, on test rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import tyro
from measuring import run_training

from nnit_diffusers.evaluation.sections.regions import SOURCES
from nnit_diffusers.evaluation.summary import difference_summary
from nnit_diffusers.loading.local import read_json_object
from nnit_diffusers.provenance import provenance
from nnit_diffusers.writing import write_json


HELD_OUT = ("held_out_combinations", "held_out_widths")


@dataclass
class Arguments:
    """Trains on four tables."""

    output_path: str = "outputs/own_tables.json"
    """JSON file to write, or whose tables to replace."""
    work_dir: str = "outputs/own_tables"
    """Folder of the tables and the pipelines."""
    tables: tuple[str, ...] = ("wine", "breast_cancer", "diabetes", "california_like")
    """Tables to train on."""
    settings: tuple[str, ...] = ()
    """Further options of `nnit train`."""


def california_like(num_rows: int = 20_000) -> pd.DataFrame:
    """Block groups with incomes, ages, rooms and places, and house values near two cities, with noise."""
    random = np.random.RandomState(0)
    income, age = random.lognormal(1.25, 0.45, num_rows).clip(0.5, 15), random.randint(1, 53, num_rows)
    rooms, bedrooms = random.lognormal(1.65, 0.35, num_rows), random.lognormal(0.07, 0.1, num_rows)
    population, occupants = random.lognormal(7, 0.7, num_rows).round(), random.lognormal(1.1, 0.25, num_rows)
    is_south = random.rand(num_rows) < 0.55
    latitude = np.where(is_south, random.normal(34, 0.6, num_rows), random.normal(37.7, 0.8, num_rows))
    longitude = -119.5 - (latitude - 36) * 0.9 + random.normal(0, 0.6, num_rows)
    # value: income, age, crowding, and the distance to two cities
    south, north = (
        np.exp(-1.2 * np.hypot(latitude - city_latitude, longitude - city_longitude))
        for city_latitude, city_longitude in ((34.05, -118.25), (37.77, -122.42))
    )
    value = 0.42 * income + 0.008 * age + 1.6 * south + 1.9 * north - 0.25 * (occupants - 3)
    value += 0.06 * np.log(rooms) * income + random.normal(0, 0.45, num_rows)
    columns = {
        "MedInc": income,
        "HouseAge": age,
        "AveRooms": rooms,
        "AveBedrms": bedrooms,
        "Population": population,
        "AveOccup": occupants,
        "Latitude": latitude,
        "Longitude": longitude,
        "MedHouseVal": (1e5 * value.clip(0.15, 5.0)).round(),
    }
    return pd.DataFrame(columns)


def read(name: str) -> tuple[pd.DataFrame, str]:
    """A table, and the name of its target."""
    if name == "california_like":
        return california_like(), "MedHouseVal"
    from sklearn import datasets

    loaded = {
        "wine": datasets.load_wine,
        "breast_cancer": datasets.load_breast_cancer,
        "diabetes": datasets.load_diabetes,
    }[name](as_frame=True, **({"scaled": False} if name == "diabetes" else {}))
    frame = loaded.frame
    if name != "diabetes":
        frame["target"] = [loaded.target_names[index] for index in frame["target"]]
    return frame, "target"


def measure(name: str, work_dir: Path, settings: tuple[str, ...]) -> dict[str, Any]:
    """Trains on one table, and summarises its evaluation."""
    frame, target = read(name)
    table, folder = work_dir / f"{name}.csv", work_dir / name
    work_dir.mkdir(parents=True, exist_ok=True)
    frame.to_csv(table, index=False)
    command = ["nnit", "train", str(table), "--target", target, "--output", str(folder), *settings]
    minutes, report = run_training(command, folder)
    return {
        "command": " ".join(command),
        "minutes": minutes,
        "num_rows": len(frame),
        "settings": report["settings"],
        "regions": {region: {kind: report["regions"][region][kind] for kind in SOURCES} for region in HELD_OUT},
        "against_direct": {region: against_direct(report, region) for region in HELD_OUT},
        "options": list(settings),
        "provenance": provenance(),
    }


def against_direct(report: dict[str, Any], region: str) -> dict[str, Any]:
    """Generated networks and networks trained one by one, of the same architectures."""
    direct = [part for part in report["direct"].values() if part["region"] == region]
    rows = {tuple(row["hidden_sizes"]): row for row in report["regions"][region]["architectures"]}
    pairs = [(rows[tuple(part["hidden_sizes"])], part["direct"]["mean"]) for part in direct]
    return {
        "direct": fmean(mean for _, mean in pairs),
        **{kind: fmean(row[kind]["mean"] for row, _ in pairs) for kind in SOURCES},
        "nnit_minus_direct": difference_summary([row["nnit"]["mean"] - mean for row, mean in pairs]),
        "architectures": [row["hidden_sizes"] for row, _ in pairs],
    }


def main(arguments: Arguments) -> None:
    path = Path(arguments.output_path)
    # tables that were measured in another run stay
    results = read_json_object(path)["tables"] if path.exists() else {}
    for name in arguments.tables:
        results[name] = measure(name, Path(arguments.work_dir), arguments.settings)
        write_json(path, {"tables": results})
        for region, compared in results[name]["against_direct"].items():
            print(
                f"{name}, {results[name]['minutes']:.1f} min, {region}: NNiT {compared['nnit']:.1%}, "
                f"GHN {compared['ghn']:.1%}, nested slices {compared['nested']:.1%}, "
                f"trained directly {compared['direct']:.1%}"
            )


if __name__ == "__main__":
    main(tyro.cli(Arguments, use_underscores=True))
