"""Estimators of the fat fraction against the truth, by muscle: the tables of docs/fat_estimators.md.

PARAVERT_REAL_DATA=... python tests/benchmark/fat_estimators.py [--people 60] [--model MODEL]

Phantoms of the general population (20 to 85 years) with their exact fat, at three noise levels, with three
coils, with true labels, those of the model, and true ones grown and shrunk by a pixel; with fat spread
more evenly and more sharply than the estimators expect. A Dixon volunteer's water and fat, added as in
other sequences, with manual masks. Two clinical studies of one man. The Gaussian mixture needs
scikit-learn, N4 SimpleITK; without them their rows are left out. Both stand in the first setting alone.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.ndimage import grey_dilation
from skimage.filters import threshold_multiotsu

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

from made_from import CONFIGURATION  # noqa: E402
from paravert.anatomy import LABELS, MUSCLES  # noqa: E402
from paravert.imaging.dicom import read_dicom  # noqa: E402
from paravert.imaging.volume import Volume  # noqa: E402
from paravert.measure.fat import fat_fractions, inner_pixels  # noqa: E402
from paravert.network.predict import Predictor  # noqa: E402
from paravert.network.unet import load_model  # noqa: E402
from paravert.study.accuracy import absolute_agreement  # noqa: E402
from paravert.synthesis import muscle_fat  # noqa: E402
from paravert.synthesis.body import body_of  # noqa: E402
from paravert.synthesis.protocol import protocol_of  # noqa: E402
from paravert.synthesis.signal import coil_profile, render_planes  # noqa: E402
from paravert.synthesis.volunteers import Volunteer, population_member  # noqa: E402
from real_scans import DIXON, MASK, read_nifti, scan_labels  # noqa: E402

try:
    from sklearn.mixture import GaussianMixture
except ImportError:
    GaussianMixture = None
try:
    import SimpleITK
except ImportError:
    SimpleITK = None


METHODS = (
    "otsu_subject",
    "otsu_muscle",
    "otsu_muscle_slice",
    "otsu_image",
    "linear",
    "linear_spread",
)
SEED, SLICES = 5, 5
NOISE, COIL = 0.025, 0.75  # of the first setting; SD of noise, and logarithm of back over front
Estimates = dict[str, np.ndarray]


@dataclass(frozen=True)
class Person:
    """A volunteer's slices without noise and coil: images, labels, truth (slices, 8), pixel size."""

    volunteer: Volunteer
    images: np.ndarray
    labels: np.ndarray
    truth: np.ndarray
    pixel_mm: float


@dataclass(frozen=True)
class Setting:
    """How the people are scanned and labelled. masks: true, network, grown or shrunk.

    spread: factor of the SD of the logit of the fat fraction within a muscle.
    """

    name: str
    noise: float = NOISE
    coil: float = COIL
    masks: str = "true"
    spread: float = 1.0


SETTINGS = (
    Setting("noise .025, coil .75, true masks"),
    Setting("noise .0125", noise=0.0125),
    Setting("noise .05", noise=0.05),
    Setting("no coil", coil=0.0),
    Setting("coil 1.2", coil=1.2),
    Setting("masks of the network", masks="network"),
    Setting("masks grown by a pixel", masks="grown"),
    Setting("masks shrunk by a pixel", masks="shrunk"),
    Setting("fat spread more evenly (0.7)", spread=0.7),
    Setting("fat spread more sharply (1.4)", spread=1.4),
)


# --- estimators ----------------------------------------------------------------------------------


def estimates(
    image: np.ndarray, labels: np.ndarray, spacing: tuple[float, float], *, slow: bool = True
) -> Estimates:
    """Return the fat fraction by estimator, each (slices, 8); NaN where there is none.

    slow: with the mixture, and with N4.
    """
    columns = fat_fractions([image], [labels], [spacing])
    found = {name: columns[f"fat_fraction_{name}"] for name in METHODS}
    found["linear_spread, eroded"] = columns["eroded_linear_spread"]
    inside = labels > 0
    signal = image[inside].astype(float)
    low, high = threshold_multiotsu(signal, classes=3, nbins=512)
    found["k-means of three"] = of_pixels(0.5 * (signal > low) + 0.5 * (signal > high), labels)
    if slow and GaussianMixture:
        found["mixture of three"] = of_pixels(mixture_fat(signal), labels)
    if slow and SimpleITK:
        flat = without_shading(image)
        columns = fat_fractions([flat], [labels], [spacing])
        for name in ("otsu_subject", "linear", "linear_spread"):
            found[f"N4, {name}"] = columns[f"fat_fraction_{name}"]
    return found


def of_pixels(fat: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mean over each muscle and slice, (slices, 8). fat: of np.nonzero(labels)."""
    key = np.nonzero(labels)[0] * len(LABELS) + labels[labels > 0] - 1
    counts = np.bincount(key, minlength=len(labels) * len(LABELS))
    total = np.bincount(key, fat, minlength=counts.size)
    mean = np.divide(total, counts, out=np.full(counts.size, np.nan), where=counts > 0)
    return mean.reshape(len(labels), len(LABELS))


def mixture_fat(signal: np.ndarray) -> np.ndarray:
    """Return the fat of pixels by a mixture of three normal distributions: 0, one half, 1."""
    some = signal[:: max(1, signal.size // 20_000), None]
    mixture = GaussianMixture(3, random_state=0).fit(some)
    shares = np.empty(3)
    shares[np.argsort(mixture.means_.ravel())] = 0, 0.5, 1
    return mixture.predict_proba(signal[:, None]) @ shares


def without_shading(image: np.ndarray) -> np.ndarray:
    """Return the image divided by its bias field, by N4 on every fourth pixel in plane."""
    whole = SimpleITK.GetImageFromArray(image.astype(np.float32))
    small = SimpleITK.Shrink(whole, [4, 4, 1])
    mask = SimpleITK.OtsuThreshold(small, 0, 1)
    n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([30, 30])
    n4.SetNumberOfControlPoints([4, 4, 4])
    n4.Execute(small, mask)
    field = SimpleITK.GetArrayFromImage(n4.GetLogBiasFieldAsImage(whole))
    return image / np.exp(field)


# --- phantoms ------------------------------------------------------------------------------------


def rendered(spread: float, index: int) -> Person:
    """Return a member of the population. spread: as of `Setting`."""
    usual = muscle_fat.LOGIT_SD
    muscle_fat.LOGIT_SD = spread * usual
    try:
        volunteer = population_member(SEED, index)
        protocol = protocol_of(volunteer, index)
        numbers = np.linspace(2, protocol.slices - 3, SLICES).astype(int)
        planes = [protocol.in_body(protocol.plane(int(number))) for number in numbers]
        quiet = replace(protocol.acquisition, noise=0.0, bias=0.0)
        sections = list(render_planes(body_of(volunteer), planes, protocol.grid, quiet))
    finally:
        muscle_fat.LOGIT_SD = usual
    images, labels, truth = (
        np.stack([getattr(section, name) for section in sections])
        for name in ("image", "labels", "mean_fat_fraction")
    )
    return Person(volunteer, images, labels, truth, protocol.pixel_mm)


def scanned(person: Person, setting: Setting) -> np.ndarray:
    """Return the images of a person with noise and coil, uint16."""
    draw = np.random.default_rng(person.volunteer.seed)
    coil = coil_profile(person.images.shape[1:], person.volunteer.seed, setting.coil)
    channels = setting.noise * draw.standard_normal((2, *person.images.shape))
    image = np.hypot(person.images * coil + channels[0], channels[1])
    return np.round(1000 * image).astype(np.uint16)


def masked(person: Person, image: np.ndarray, masks: str, model: Path) -> np.ndarray:
    """Return the labels of a setting."""
    labels = person.labels
    if masks == "network":
        volume = Volume(image, np.diag([-person.pixel_mm, -person.pixel_mm, 30.0, 1.0]))
        return scan_labels(Predictor(load_model(model)), volume)
    if masks == "grown":
        cross = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]])
        return np.where(labels > 0, labels, grey_dilation(labels, footprint=cross))
    return np.where(inner_pixels(labels), labels, 0) if masks == "shrunk" else labels


def measured(setting: Setting, model: Path, person: Person) -> Estimates:
    """Return the estimates of one person in a setting."""
    image = scanned(person, setting)
    labels = masked(person, image, setting.masks, model)
    spacing = person.pixel_mm, person.pixel_mm
    return estimates(image, labels, spacing, slow=setting == SETTINGS[0])


def of_muscles(found: np.ndarray) -> np.ndarray:
    """Return the mean of each muscle over slices and sides, (4,). found: (slices, 8)."""
    muscles = [[label.value - 1 for label in LABELS if label.muscle == name] for name in MUSCLES]
    return np.array([np.nanmean(found[:, own]) for own in muscles])


def judged(found: np.ndarray, truth: np.ndarray, people: list[Volunteer]) -> Iterator[list[str]]:
    """Yield the figures of each muscle. found, truth: (people, 4), means of the muscles."""
    women = np.array([one.sex == "F" for one in people], float)
    terms = np.stack([np.ones(len(people)), women, [one.age_years / 10 for one in people]], axis=1)
    for number in range(len(MUSCLES)):
        known = np.isfinite(found[:, number])
        if known.sum() < 10:
            yield ["null"] * 7
            continue
        own, true = found[known, number], truth[known, number]
        error, others = own - true, np.delete(truth[known], number, axis=1).mean(axis=1)
        effects = [np.linalg.lstsq(terms[known], y, rcond=None)[0] for y in (own, true)]
        yield [
            f"{known.sum()}",
            f"{error.mean():+.3f}",
            f"{np.abs(error).mean():.3f}",
            f"{intraclass(own, true):.2f}",
            f"{np.corrcoef(error, others)[0, 1]:+.2f}",
            *(f"{effects[0][term] / effects[1][term]:.2f}" for term in (1, 2)),
        ]


def intraclass(found: np.ndarray, truth: np.ndarray) -> float:
    """Return ICC(2,1) of the estimates and the truth."""
    return absolute_agreement(np.stack([found, truth], axis=1)).icc


def phantom_tables(count: int, model: Path, settings: tuple[Setting, ...]) -> None:
    """Print a table per setting: a row per estimator, of figures by muscle."""
    people: dict[float, list[Person]] = {}
    # Spawned: OpenVINO, which the scans above have started, does not survive a fork.
    with ProcessPoolExecutor(2, get_context("spawn")) as workers:
        for setting in settings:
            if setting.spread not in people:
                people = {1.0: people[1.0]} if 1.0 in people else {}
                people[setting.spread] = list(
                    workers.map(partial(rendered, setting.spread), range(count))
                )
            everyone = people[setting.spread]
            found = list(workers.map(partial(measured, setting, model), everyone))
            print(f"\n### {setting.name}\n")
            head = ["estimator", "muscle", "n", "bias", "MAE", "ICC", "r", "sex", "age"]
            print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
            volunteers = [one.volunteer for one in everyone]
            for name in found[0]:
                table = np.array([of_muscles(one[name]) for one in found])
                truth = np.array(
                    [
                        of_muscles(np.where(np.isnan(one[name]), np.nan, person.truth))
                        for one, person in zip(found, everyone, strict=True)
                    ]
                )
                whole = np.array([of_muscles(person.truth) for person in everyone])
                truth = np.where(np.isnan(truth), whole, truth)
                for muscle, cells in zip(MUSCLES, judged(table, truth, volunteers), strict=True):
                    print(f"| {name} | {muscle} | {' | '.join(cells)} |")
            sys.stdout.flush()


# --- real scans ----------------------------------------------------------------------------------


def dixon_table(data: Path) -> None:
    """Print bias, MAE and correlation over the sections of the Dixon volunteer, and its shares of fat."""
    water, fat = (read_nifti(data / DIXON.format(kind)) for kind in ("water", "fat"))
    mask = read_nifti(data / MASK.format("water")).array
    labels = np.choose(mask, [0, 6, 8, 7, 5]).astype(np.uint8)
    w, f = (volume.array.astype(np.float32) for volume in (water, fat))
    fraction = f / np.maximum(w + f, 1)
    truth = of_pixels(fraction[labels > 0], labels)
    print(
        "\n## TUM01\n\n| muscle | mean fat | fat below 30 % | fat above 50 % | pixels above 70 % |"
    )
    print(f"|{'---|' * 5}")
    for label in LABELS[4:]:
        own = fraction[labels == label.value]
        shares = [own[own < 0.3].sum() / own.sum(), own[own > 0.5].sum() / own.sum()]
        print(
            f"| {label.muscle} {label.side} | {own.mean():.3f} | {shares[0]:.2f} | {shares[1]:.2f} |"
            f" {(own > 0.7).mean():.4f} |"
        )
    print(f"\n| image | estimator | n | bias | MAE | r |\n|{'---|' * 6}")
    for name, image in {
        "like T2 (0.2 water + fat)": 0.2 * w + f,
        "like T1 (0.5 water + fat)": 0.5 * w + f,
        "in phase (water + fat)": w + f,
        "fat": f,
    }.items():
        for method, found in estimates(image, labels, water.pixel_spacing_mm).items():
            known = np.isfinite(found) & np.isfinite(truth)
            cells = ["null"] * 3
            if known.any():
                error = (found - truth)[known]
                r = np.corrcoef(found[known], truth[known])[0, 1]
                cells = [f"{error.mean():+.3f}", f"{np.abs(error).mean():.3f}", f"{r:.2f}"]
            print(f"| {name} | {method} | {known.sum()} | {' | '.join(cells)} |")


def two_scanners(data: Path, model: Path) -> None:
    """Print by muscle the difference of the sides, and of the man's two scans, mean over levels."""
    predictor = Predictor(load_model(model))
    studies = {"T1": "lumbar_study_cc0/T1_AX", "T2": "lumbar_study_cc0_15t/T2_AX"}
    found: dict[str, list[Estimates]] = {}
    for name, folder in studies.items():
        volumes = [stack.volume for stack in read_dicom(data / folder).stacks]
        found[name] = [
            estimates(volume.array, scan_labels(predictor, volume), volume.pixel_spacing_mm)
            for volume in volumes
        ]
    head = ["estimator", "muscle", "T1 mean", "T2 mean", "T1 sides", "T2 sides", "T1 - T2"]
    print("\n## One man, T1 at 0.3 T and T2 at 1.5 T; mean over five levels\n")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for method in found["T1"][0]:
        t1, t2 = (
            np.array([np.nanmean(one[method], axis=0) for one in found[name]]) for name in studies
        )
        for number, muscle in enumerate(MUSCLES):
            left, right = 2 * number, 2 * number + 1
            both = slice(left, right + 1)
            cells = [np.nanmean(scan[:, both]) for scan in (t1, t2)]
            cells += [np.nanmean(np.abs(scan[:, left] - scan[:, right])) for scan in (t1, t2)]
            cells += [np.nanmean(np.abs(t1[:, both] - t2[:, both]))]
            print(f"| {method} | {muscle} | {' | '.join(f'{cell:.3f}' for cell in cells)} |")


def main(people: int, model: str, settings: int) -> None:
    """Print the tables."""
    file = Path(model or REPOSITORY / CONFIGURATION["model"]["file"])
    if "PARAVERT_REAL_DATA" in os.environ:
        data = Path(os.environ["PARAVERT_REAL_DATA"])
        dixon_table(data)
        two_scanners(data, file)
    print(f"\n## Phantoms: {people} people of 20 to 85 years")
    phantom_tables(people, file, SETTINGS[:settings])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--model", default="", help="model file (.safetensors)")
    parser.add_argument("--settings", type=int, default=len(SETTINGS), help="the first so many")
    main(**vars(parser.parse_args()))
