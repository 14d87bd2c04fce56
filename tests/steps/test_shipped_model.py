"""The shipped network, which knows synthetic slices alone: on phantoms, and on real scans if at hand."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from whole_run import gathered

from dicom_writer import Plan, write_series
from imaging_cases.case import pixels
from paravert.anatomy import LABELS, MUSCLES
from paravert.imaging.label_maps import slice_overlap
from paravert.measure.fat import fat_fractions
from paravert.network.clean import cleaned
from paravert.network.predict import Predictor, dixon_logits
from paravert.network.unet import load_model
from paravert.network.validate import by_muscle
from paravert.provenance import file_sha256
from paravert.study.report_tables import warnings_text
from phantom_slices import phantom_slices
from real_scans import (
    DIXON,
    MASK,
    STUDIES,
    dixon_labels,
    judged,
    mask_labels,
    read_nifti,
    read_series,
    scan_labels,
)

REPOSITORY = Path(__file__).parents[2]
CONFIGURED = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())["model"]
SHIPPED = REPOSITORY / CONFIGURED["file"]
MOST_BYTES = 20_000_000
PHANTOM_SEED, PHANTOMS, SLICES = 9001, 12, 5


@pytest.fixture(scope="module")
def predictor():
    return Predictor(load_model(SHIPPED), torch.device("cpu"))


def test_the_shipped_file_is_the_one_that_configuration_and_card_name():
    card = json.loads(SHIPPED.with_suffix(".json").read_text())
    assert CONFIGURED["sha256"] == card["weights_sha256"] == file_sha256(SHIPPED)
    assert SHIPPED.stat().st_size < MOST_BYTES
    assert "Not a medical device" in card["note"]
    assert "no image of a person" in card["trained_on"]
    assert card["data"]["calibration_error"] < 0.05


def test_a_scan_of_something_else_is_analysed_with_a_warning(tmp_path):
    plan = Plan(rows=48, columns=48, slices=3)
    y, x = np.mgrid[:48, :48] - 24
    ball = 1000 * (np.hypot(y, x) < 18)
    write_series(tmp_path / "images", plan, edit=pixels(lambda signal, number: ball, plan))
    (tmp_path / "sheet.csv").write_text("subject,images\nS1,images\n")
    results = gathered(tmp_path / "sheet.csv", ["S1"])
    (row,) = pd.read_parquet(results / "cohort/ledger.parquet").to_dict("records")
    assert row["status"] == "analysed"
    assert "no-muscle-found" in row["warnings"]
    assert "another part of the body" in row["message"]
    assert "no-muscle-found" in list(warnings_text(pd.DataFrame([row])).index)


def test_it_predicts_an_iou_for_every_muscle(predictor):
    assert set(predictor.model.calibration.knots) == set(MUSCLES)


@pytest.mark.long
def test_it_finds_every_muscle_of_phantoms_that_it_never_saw(predictor):
    found = []
    for index in range(PHANTOMS):
        phantom = phantom_slices(PHANTOM_SEED, PHANTOMS, index, SLICES)
        spacing_mm = (phantom.pixel_mm, phantom.pixel_mm)
        labels = predictor.stack_labels(phantom.images, spacing_mm, apart_mm=math.inf)
        labels, _ = cleaned(labels, apart_mm=0)
        found.append(slice_overlap(labels, phantom.labels).iou)
    medians = {
        muscle: row["median_iou"] for muscle, row in by_muscle(np.concatenate(found)).items()
    }
    lowest = {
        "psoas_major": 0.93,
        "quadratus_lumborum": 0.88,
        "erector_spinae": 0.92,
        "multifidus": 0.85,
    }
    for muscle in MUSCLES:
        assert (medians[muscle] or 0.0) > lowest[muscle], medians


@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize(
    ("kind", "least"),
    [
        # The aim is 0.85 and 0.75. Models are chosen by synthetic slices first: a better one there may
        # lose a little here.
        ("water", {"erector_spinae": 0.90, "multifidus": 0.79}),
        ("fat", {"erector_spinae": 0.91, "multifidus": 0.83}),
    ],
)
def test_it_finds_the_back_muscles_of_a_real_volunteer(predictor, real_data, kind, least):
    mask = read_nifti(real_data / MASK.format(kind)).array
    for (muscle, side), (dice, _, swapped) in judged(
        dixon_labels(predictor, real_data, kind), mask
    ).items():
        assert dice > least[muscle], (muscle, side)
        assert swapped < 0.001, (muscle, side)


@pytest.mark.long
@pytest.mark.real
def test_fat_fractions_of_a_real_dixon_volunteer_are_those_with_manual_masks(predictor, real_data):
    water, fat = (read_nifti(real_data / DIXON.format(kind)) for kind in ("water", "fat"))
    mask = read_nifti(real_data / MASK.format("water")).array
    stacks = [
        predictor.prepared(one.array, one.pixel_spacing_mm, apart_mm=one.slice_spacing_mm)
        for one in (water, fat)
    ]
    logits = map(dixon_logits, *map(predictor.logits, stacks))
    labels, _ = cleaned(
        predictor.predicted(stacks[0], logits).labels, apart_mm=water.slice_spacing_mm
    )
    assert np.mean([dice for dice, _, _ in judged(labels, mask).values()]) > 0.91
    both = water.array.astype(float) + fat.array
    for muscle in ("erector_spinae", "multifidus"):
        values = [label.value for label in LABELS if label.muscle == muscle]
        found, true = (
            fat.array[inside].sum() / both[inside].sum()
            for inside in (np.isin(labels, values), np.isin(mask_labels(mask), values))
        )
        assert found == pytest.approx(true, abs=0.02), muscle


@pytest.mark.real
@pytest.mark.parametrize("study", STUDIES)
def test_fat_of_both_sides_of_a_man_is_alike_on_each_scanner(predictor, real_data, study):
    stacks = []
    for scan in read_series(real_data / STUDIES[study]):
        labels = scan_labels(predictor, scan)
        columns = fat_fractions([scan.array], [labels], [scan.pixel_spacing_mm])
        stacks.append(pd.DataFrame(columns["eroded_linear_spread"]).mean())
    left, right = np.array(stacks).reshape(len(stacks), len(MUSCLES), 2).transpose(2, 0, 1)
    # The aim is 0.05, reached by 0.001; labels differ in a few pixels from processor to processor.
    assert np.nanmean(np.abs(left - right), axis=0).max() < 0.055
