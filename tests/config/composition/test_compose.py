import re
import subprocess
import sys

import pytest

from medvlp.config import ConfigError, as_dict, compose, expand_grid, from_dict, list_options, load_task

ROCO = "recipes=clip_rocov2"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([ROCO, "optim.lrr=1"], r"unknown key 'optim.lrr'; did you mean 'optim.lr'\?"),
        ([ROCO, "optim.lr=fast"], r"optim.lr=fast: .*Float"),
        ([ROCO, "seed=1.5"], r"seed=1.5: .*Integer"),
        ([ROCO, "data.sources.rocov2.wieght=2"], r"unknown key 'data.sources.rocov2.wieght'; did you mean 'weight'\?"),
        ([ROCO, "optim.parts.vision.frezze=true"], r"did you mean 'freeze'\?"),
        ([ROCO, "optim.parts.text.lr=x"], r"optim.parts.text.lr=x: .*Float"),
        ([ROCO, "data=rocov3"], r"data=rocov3: no such option; did you mean 'rocov2'\?"),
        ([ROCO, "trainer.precision=bf16"], r"did you mean 'bf16-true'\?|did you mean 'bf16-mixed'\?"),
        ([ROCO, "trainer.max_epochs=null"], r"give trainer.max_steps or trainer.max_epochs"),
        ([ROCO, "run_name=a/b"], r"run_name='a/b' must be a plain folder name"),
        ([ROCO, "data.sources.rocov2.weight=0"], r"weight=0.0 must be above 0"),
        ([ROCO, "trainer.monitor=other/acc1"], r"names no task"),
        ([ROCO, "lr"], r"'lr' is not key=value"),
        ([ROCO, "+optim.lrr=3"], r"no key can be added"),
        ([ROCO, "=1"], r"'=1' is not key=value"),
        ([ROCO, "optim.parts={text: {freeze: true}}"], r"optim.parts is set name by name"),
        ([ROCO, "data.augment.scale=[0.5]"], r"must be \[smallest, largest\]"),
        ([ROCO, "data.augment.ratio=[0,1]"], r"must be \[smallest, largest\]"),
        ([ROCO, "data.workers=-1"], r"data.workers=-1 must not be negative"),
        ([ROCO, "optim.lr=nan"], r"optim.lr=nan must be a number"),
        ([ROCO, "optim.weight_decay=inf"], r"optim.weight_decay=inf must be a number"),
        ([ROCO, "optim.beta1=2"], r"optim.beta1=2.0 is a share"),
        ([ROCO, "trainer.accelerator=foo"], r"trainer.accelerator='foo' is not a choice"),
        ([ROCO, "trainer.strategy=fsdq"], r"trainer.strategy='fsdq' is not a choice"),
        (
            [ROCO, "objective.same_text=positive"],
            r"equal texts have equal embeddings.*What acts: masked, mil_nce, apart",
        ),
        ([ROCO, "objective.same_text=mask"], r"did you mean 'masked'\?"),
        ([ROCO, "objective.positives=kind"], r"expected sample, group, label.<name> or metadata.<name>"),
        ([ROCO, "objective.same_text=apart", "data.shuffle_block=8"], r"leave one of them out"),
        ([ROCO, "objective.max_logit_scale=0"], r"must be at least 1"),
        (["data=rocov2", "model=open_clip", "trainer.max_steps=1", "model.embed_dim=64"], r"embed_dim has no effect"),
        ([ROCO, "model.pretrained=openai"], r"model.pretrained belongs to model.name"),
        (["recipes=clip_rocv2"], r"unknown recipe 'clip_rocv2'; did you mean 'clip_rocov2'\?"),
        (["recipes=eval_rocov2"], r"is for `medvlp eval`, but this is `medvlp train`"),
        (["data=rocov2"], r"model"),
        (
            ["data=vqa_rad", "model=llava_smol", "objective=instruct", "trainer.max_steps=1", "objective.options.a=1"],
            r"unknown key 'objective.options.a': what is chosen here has no objective.options",
        ),
        (
            ["data=vqa_rad", "model=llava_smol", "objective=instruct", "trainer.max_steps=1", "data.augment.bits=16"],
            r"objective=instruct shows images as evaluation sees them, whole and unchanged, so data.augment has no effect",
        ),
    ],
)
def test_a_mistake_names_its_key_and_the_remedy(words, said):
    with pytest.raises(ConfigError, match=said):
        compose("train", words)


def test_a_typo_exits_1_before_a_heavy_library_is_imported():
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "medvlp.cli", "train", ROCO, "optim.lrr=1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "optim.lrr" in run.stderr
    heavy = r"\| +(torch|lightning|transformers|open_clip|timm|matplotlib|sklearn|scipy)$"
    assert not re.search(heavy, run.stderr, flags=re.M)
    assert "Traceback" not in run.stderr


def test_two_sources_merge_into_a_blend_and_one_of_them_is_overridden():
    config = compose("train", [ROCO, "data=[rocov2,mni152]", "data.sources.rocov2.weight=2"])
    assert {name: source.weight for name, source in config.data.sources.items()} == {"rocov2": 2.0, "mni152": 1.0}


@pytest.mark.parametrize(
    ("words", "steps", "epochs"),
    [
        ([], None, 5),
        (["trainer.max_steps=200"], 200, None),
        (["trainer.max_steps=200", "trainer.max_epochs=9"], 200, 9),
        (["trainer.max_steps=null"], None, 5),
        (["trainer.max_epochs=9"], None, 9),
    ],
)
def test_a_length_on_the_command_line_replaces_the_recipes(words, steps, epochs):
    trainer = compose("train", [ROCO, *words]).trainer
    assert (trainer.max_steps, trainer.max_epochs) == (steps, epochs)


def test_a_source_of_ones_own_needs_no_file():
    config = compose("train", [ROCO, "data.sources.mine.path=there/train"])
    assert config.data.sources["mine"].path == "there/train"


def test_a_configuration_survives_the_plain_dict_of_a_checkpoint():
    config = compose("train", [ROCO, "optim.parts.text.lr=1e-5", "trainer.loggers=[tensorboard]"])
    assert from_dict(as_dict(config)) == config


def test_a_foreign_dict_is_refused():
    values = as_dict(compose("train", [ROCO]))
    with pytest.raises(ConfigError, match=r"objective.kind='other' is unknown"):
        from_dict({**values, "objective": {"kind": "other"}})
    with pytest.raises(ConfigError, match="optim"):
        from_dict({**values, "optim": {**values["optim"], "momentum": 1}})
    deep: dict = {}
    for _ in range(3000):
        deep = {"a": deep}
    with pytest.raises(ConfigError, match="not a training configuration"):
        from_dict({**values, "data": {**values["data"], "sources": deep}})


def test_a_grid_recipe_gives_a_run_of_its_own_name_for_each_cell():
    cells = expand_grid("train", ["recipes=clip_rocov2_lr_grid", "seed=3"], multirun=False)
    runs = [compose("train", cell) for cell in cells]
    assert [run.optim.lr for run in runs] == [3e-4, 1e-3, 3e-3]
    assert [run.seed for run in runs] == [3, 3, 3]
    assert [run.run_name for run in runs] == [
        "clip_rocov2__lr-0.0003",
        "clip_rocov2__lr-0.001",
        "clip_rocov2__lr-0.003",
    ]
    assert [expand_grid("train", cell, multirun=False) for cell in cells] == [[cell] for cell in cells]


def test_a_grid_on_the_command_line_is_the_product_of_its_axes():
    cells = expand_grid("train", [ROCO, "optim.lr=1e-3,1e-4", "seed=0,1", "run_name=g"], multirun=True)
    assert [compose("train", cell).run_name for cell in cells] == [
        "g__lr-0.001__seed-0",
        "g__lr-0.001__seed-1",
        "g__lr-0.0001__seed-0",
        "g__lr-0.0001__seed-1",
    ]


def test_a_list_on_the_command_line_without_multirun_is_a_mistake():
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        compose("train", [ROCO, "optim.lr=1e-3,1e-4"])


def test_recipes_and_options_of_the_working_folder_are_found(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/mine.yaml").write_text("# @package _global_\nverb: train\ndefaults: [clip_rocov2]\nseed: 9\n")
    (tmp_path / "configs/data").mkdir(parents=True)
    (tmp_path / "configs/data/own.yaml").write_text("sources: {own: {path: here/train}}\n")
    (tmp_path / "configs/data/rocov2.yaml").write_text("sources: {rocov2: {path: mine/train}}\n")
    monkeypatch.chdir(tmp_path)
    config = compose("train", ["recipes=mine", "data=own"])
    assert (config.seed, list(config.data.sources)) == (9, ["own"])
    assert "mine" in list_options("recipes")
    assert compose("train", [ROCO]).data.sources["rocov2"].path == "mine/train"  # one's own comes first


def test_prepared_data_is_looked_for_under_medvlp_data(monkeypatch):
    monkeypatch.setenv("MEDVLP_DATA", "/elsewhere")
    assert compose("train", [ROCO]).data.sources["rocov2"].path == "/elsewhere/rocov2/train"
    assert load_task("rocov2_retrieval").data == "/elsewhere/rocov2"


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(ConfigError, match=r"did you mean 'rocov2_retrieval'\?"):
        load_task("roco_retrieval")


def test_a_source_that_is_prepared_needs_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVLP_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match=rf"data=mine: no such option.* there is no {tmp_path}/mine/train"):
        compose("train", [ROCO, "data=mine"])
    (tmp_path / "mine/train").mkdir(parents=True)
    (tmp_path / "rocov2/train").mkdir(parents=True)
    config = compose("train", [ROCO, "data=[mine,rocov2_captions]", "data.sources.mine.weight=2"])
    assert {name: source.path for name, source in config.data.sources.items()} == {
        "mine": f"{tmp_path}/mine/train",
        "rocov2": f"{tmp_path}/rocov2/train",
    }
    assert config.data.sources["rocov2"].caption_prompts  # of the file, which comes before the folder
    with pytest.raises(ConfigError, match="no such option"):
        compose("train", [ROCO, "data=../mine"])
