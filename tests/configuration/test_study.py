"""params.yaml -> configs/: how overrides merge, and which files a change reaches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablation.analysis.params import ReportParams
from ablation.common.settings import read_yaml
from ablation.configuration.study import merge, resolve
from ablation.data.params import DownloadParams, NormalizeParams
from ablation.evaluation.params import EvaluateParams
from ablation.training.params import VariantParams
from tests.configuration.changes import PROJECT, TEXT, VALUES, changed, replaced

# The variants that set lr themselves; train.lr does not reach them.
OWN_LR = {
    "simple_nn_lr_1e-1",
    "simple_nn_bn_lr_1e-1",
    *("lr_1e-0", "lr_1e-1", "lr_5e-2", "lr_5e-3", "lr_1e-3"),
    "adam",
    *("resnet20", "plain20", "resnet20_dws", "squeezenet", "squeezenet_early", "resnet20_modern", "speedrun"),
}


@pytest.fixture
def configs(configure, workspace):
    """Runs the stage on a params.yaml; gives the bytes of each file of configs/."""

    def call(params: object) -> dict[str, bytes]:
        assert configure(params) is None
        folder = workspace / "configs"
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return call


def different(files: dict[str, bytes], others: dict[str, bytes]) -> set[str]:
    """The files that differ, other than the copy of all settings."""
    return {name for name in files | others if files.get(name) != others.get(name)} - {"params.yaml"}


BASE = {"lr": 0.1, "model": {"name": "a", "width": 8, "norm": {"eps": 1}}, "milestones": [0.5]}


@pytest.mark.parametrize(
    ("overrides", "differences"),
    [
        ({}, {}),
        ({"lr": 0.2}, {"lr": 0.2}),
        ({"lr": None, "model": None}, {}),
        ({"lr": 0, "milestones": []}, {"lr": 0, "milestones": []}),
        ({"model": {"width": 16}}, {"model": {"name": "a", "width": 16, "norm": {"eps": 1}}}),
        ({"model": {"width": None}}, {}),
        ({"model": {"name": "a", "width": 16}}, {"model": {"name": "a", "width": 16, "norm": {"eps": 1}}}),
        ({"model": {"name": None, "width": 16}}, {"model": {"name": "a", "width": 16, "norm": {"eps": 1}}}),
        ({"model": {"norm": {"eps": 2}}}, {"model": {"name": "a", "width": 8, "norm": {"eps": 2}}}),
        ({"model": {"name": "b", "depth": 3}}, {"model": {"name": "b", "depth": 3}}),
        ({"model": "b"}, {"model": "b"}),
        ({"new": {"x": 1}}, {"new": {"x": 1}}),
    ],
)
def test_merge(overrides, differences):
    assert merge(BASE, overrides) == BASE | differences
    assert BASE["model"] == {"name": "a", "width": 8, "norm": {"eps": 1}}, "the base itself stays"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 0.0001),
        ("-2E+3", -2000.0),
        ("1.e3", 1000.0),
        ("1.5e-3", 0.0015),
        ("0.0001", 0.0001),
        ("'1e-4'", "1e-4"),
        ("1e", "1e"),
        ("simple_nn_lr_1e-1", "simple_nn_lr_1e-1"),
    ],
)
def test_numbers_of_yaml_1_2(tmp_path, text, value):
    (tmp_path / "a.yaml").write_text(f"x: {text}")
    read = read_yaml(tmp_path / "a.yaml")["x"]
    assert (read, type(read)) == (value, type(value))


def test_exponent_without_a_dot_is_the_same_setting(configs):
    with_exponent = configs(replaced("  weight_decay: 0.0001 ", "  weight_decay: 1e-4 "))
    assert different(with_exponent, configs(TEXT.encode())) == set()


def test_merge_keys_give_way_to_the_keys_beside_them(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}


def test_writes_a_file_per_stage_and_variant_of_the_study(configs, workspace):
    study = ["resnet20", "simple_nn"]
    files = configs(changed({"study": study}))
    stages = {"download.yaml", "normalize.yaml", "evaluate.yaml", "aggregate.yaml"}
    assert set(files) == {"params.yaml", *stages, *(f"train/{variant}.yaml" for variant in study)}

    params, variants = resolve("params.yaml")
    folder = workspace / "configs"
    assert list(variants) == study
    for variant in study:
        assert VariantParams.read(folder / f"train/{variant}.yaml") == variants[variant]
    data = params.data.model_dump()
    assert DownloadParams.read(folder / "download.yaml").model_dump().items() <= data.items()
    assert NormalizeParams.read(folder / "normalize.yaml").model_dump().items() <= data.items()
    assert EvaluateParams.read(folder / "evaluate.yaml") == params.evaluate
    report = ReportParams.read(folder / "aggregate.yaml")
    assert (report.label, list(report.seeds), list(report.variants)) == (params.data.label, study, study)
    assert (report.sweeps, report.comparisons) == (params.aggregate.sweeps, params.aggregate.comparisons)
    expected = {name: variant.model_dump(exclude={"seeds"}) for name, variant in variants.items()}
    assert report.variants == expected


def test_train_lr_reaches_the_variants_that_do_not_set_it(configs):
    base = configs(VALUES)
    reached = {f"train/{variant}.yaml" for variant in set(VALUES["variants"]) - OWN_LR}
    assert different(configs(changed({"train.lr": 0.02})), base) == reached | {"aggregate.yaml"}


def test_epochs_of_one_variant_reach_that_variant(configs):
    base = configs(VALUES)
    assert different(configs(changed({"variants.simple_nn.epochs": 5})), base) == {
        "train/simple_nn.yaml",
        "aggregate.yaml",
    }


def test_a_change_of_the_data_reaches_no_training_settings(configs):
    base = configs(VALUES)
    assert different(configs(changed({"data.train_size": 5000})), base) == {"normalize.yaml"}
    url = {"data.url": "cifar.tar.gz", "data.md5": "0" * 32, "data.label": "mine"}
    assert different(configs(changed(url)), base) == {"download.yaml", "aggregate.yaml"}


def test_report_options_reach_the_report_only(configs):
    base = configs(VALUES)
    assert different(configs(changed({"aggregate.sweeps.l2.title": "L2"})), base) == {"aggregate.yaml"}
    assert different(configs(changed({"evaluate.batch_size": 500})), base) == {"evaluate.yaml"}


def test_seeds_reach_every_variant_and_the_report(configs, workspace):
    configs(changed({"seeds": [7, 0, 4]}))
    for variant in VALUES["study"]:
        assert VariantParams.read(workspace / f"configs/train/{variant}.yaml").seeds == [7, 0, 4]
    assert ReportParams.read(workspace / "configs/aggregate.yaml").seeds == {
        name: [7, 0, 4] for name in VALUES["study"]
    }


def test_seeds_of_its_own_reach_one_variant_and_the_report(configs, workspace):
    base = configs(VALUES)
    own = configs(changed({"variants.l1.seeds": [0, 1, 2, 3]}))
    assert different(own, base) == {"train/l1.yaml", "aggregate.yaml"}
    seeds = ReportParams.read(workspace / "configs/aggregate.yaml").seeds
    assert (seeds["l1"], seeds["simple_nn"]) == ([0, 1, 2, 3], VALUES["seeds"])


def test_the_settings_are_kept_as_they_were(configs, workspace):
    values = changed({"train.lr": 0.02, "variants.l1.lr": 1e-5, "seeds": [7]})
    configs(values)
    assert read_yaml(workspace / "configs/params.yaml") == values


def test_settings_that_change_while_they_are_checked_are_refused(configure, workspace, monkeypatch):
    """DVC reads the file after the stage: it would take the change for what was checked, and never apply it."""

    def edit(*_):
        (workspace / "params.yaml").write_bytes(replaced("label: cifar10 ", "label: another "))

    monkeypatch.setattr("ablation.configuration.study.equal_settings", lambda _: [])
    monkeypatch.setattr("ablation.configuration.study.write_configs", edit)
    assert configure(VALUES) == "error: params.yaml: changed while it was checked; run the same command again"


def test_a_variant_that_may_be_misspelt_is_told(configure, capsys) -> None:
    """As after `-S ++variants.simple_n_aug.lr=0.1`; one of a sweep or a comparison may wait outside the study."""
    assert configure(changed({"variants.simple_n_aug": {"lr": 0.1}, "study": ["simple_nn", "simple_nn_aug"]})) is None
    assert capsys.readouterr().out.splitlines() == [
        "cifar10: 2 variants, 6 runs",
        "note: variants.simple_n_aug is not in study, so it is not trained; did you mean simple_nn_aug?",
    ]


def test_equal_settings_are_named(configure, capsys):
    twins = {"variants.twin": {}, "variants.another": {"lr": 0.01}, "study": ["twin", "simple_nn", "l1", "another"]}
    assert configure(changed(twins)) is None
    assert capsys.readouterr().out.splitlines() == [
        "cifar10: 4 variants, 12 runs",
        "note: twin and simple_nn and another have equal settings, so their results will be equal",
    ]


def test_variants_outside_the_study_are_not_written(configs):
    files = configs(changed({"study": ["l1"]}))
    assert [name for name in files if name.startswith("train/")] == ["train/l1.yaml"]


def test_dvc_changes_no_line_but_those_it_sets(workspace: Path):
    """DVC writes lists in block style and drops comments and empty lines after them; a second -S changes no more."""
    from dvc.utils.hydra import apply_overrides  # type: ignore[import-untyped]

    path = workspace / "params.yaml"
    path.write_text(TEXT)
    for lr in ("0.1", "0.2"):
        apply_overrides(path, [f"train.lr={lr}", "seeds=[3,4,5]"])
        lines = zip(TEXT.splitlines(), path.read_text().splitlines(), strict=True)
        changes = [after.split()[:2] for before, after in lines if after != before]
        assert changes == [["-", "3"], ["-", "4"], ["-", "5"], ["lr:", lr]]


def test_git_sees_settings_that_were_refused(workspace: Path):
    """DVC writes -S in the same second as git's last look, to the same size: `git checkout` would do nothing."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout

    def write(text: str) -> None:
        params.write_text(text)
        os.utime(params, (1_700_000_000, 1_700_000_000))

    params = workspace / "params.yaml"
    git("init", "-q")
    for setting in ("core.checkStat=minimal", "core.trustCtime=false", "user.name=a", "user.email=a@b"):
        git("config", *setting.split("="))  # the first two since a test cannot set all the timestamps that git compares
    write(TEXT)
    git("add", "params.yaml")
    git("-c", "commit.gpgsign=false", "commit", "-qm", "settings")
    write(TEXT.replace("\n  lr: 0.01 ", "\n  lr: -0.1 ", 1))
    assert git("status", "--short") == ""
    command = [sys.executable, PROJECT / "stages" / "configure.py"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stderr == "error: params.yaml: train.lr: -0.1 must be greater than 0\n"
    assert git("status", "--short") == " M params.yaml\n"
    git("checkout", "-q", "params.yaml")
    assert params.read_text() == TEXT


def test_variants_outside_the_study_are_checked(configure):
    error = configure(changed({"study": ["l1"], "variants.simple_nn.epochs": -1}))
    assert error == (
        "error: params.yaml: variants.simple_nn.epochs: -1 must be greater than 0 "
        "(not in study, but checked with what it inherits from train)"
    )


def test_a_variant_outside_the_study_may_name_a_device_that_is_not_there(configure):
    assert configure(changed({"study": ["simple_nn"], "variants.l1.device": "cuda:99"})) is None


def test_process_ends_well_on_the_params_of_the_project(workspace: Path):
    (workspace / "params.yaml").write_text(TEXT)
    command = [sys.executable, PROJECT / "stages" / "configure.py"]
    result = subprocess.run(command, capture_output=True, text=True)
    summary = f"cifar10: {len(VALUES['study'])} variants, {3 * len(VALUES['study'])} runs\n"
    assert (result.returncode, result.stdout, result.stderr) == (0, summary, "")


def test_equal_settings_with_other_seeds_are_not_equal(configure, capsys) -> None:
    assert configure(changed({"variants.twin": {"seeds": [7]}, "study": ["twin", "simple_nn"]})) is None
    assert "equal settings" not in capsys.readouterr().out


def test_every_image_may_be_used_and_one_of_each_class_is_enough(configure) -> None:
    assert configure(changed({"data.train_size": 45_000})) is None
    assert configure(changed({"data.train_size": 10, "data.val_size": 10})) is None
