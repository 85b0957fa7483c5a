import time

import pytest

from medvlp.config import ConfigError, compose, expand_grid, list_options, load_task, verb_help

HEAD = "# @package _global_\nverb: train\n"
MINE = f"{HEAD}defaults: [clip_rocov2]\n"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "configs/data").mkdir(parents=True)
    (tmp_path / "configs/task").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HEAD + BOMB, r"mine.yaml, line 7: its aliases make more than 50000 values"),
        (HEAD + "x: &x [*x]\n", r"line 3: \*x stands inside of what it names"),
        (HEAD + "x: " + "[" * 900 + "]" * 900, r"values inside each other"),
        (HEAD + "x: " + "[" * 100_000, r"mine.yaml"),
        (HEAD + "x: " + "a" * 2**20, r"bytes, expected at most"),
        ("# @package _global_\n- verb\n", r"holds a list, expected `key: value` lines"),
        ("# @package _global_\nverb\n", r"does not say `verb: train`"),
        ("", r"the first line of a recipe is `# @package _global_`"),
        ("verb: train\ndefaults: [clip_rocov2]\nseed: 9\n", r"without it its values go unread"),
        (HEAD + "\tx: 1\n", r"is not YAML: .*tab"),
        (HEAD.encode() + "run_name: Röntgen".encode("latin-1"), r"line 3: not UTF-8"),
        (HEAD.encode() + b"run_name: a\0b", r"is not YAML"),
        (HEAD + "seed: 1\nseed: 2\n", r"duplicate key seed"),
        (HEAD + "x: !!python/object/apply:os.system ['true']\n", r"could not determine a constructor"),
        (HEAD + "defaults: 5\n", r"expected a list such as"),
        (HEAD + "defaults: [{a: {b: c}}]\n", r"expected a list such as"),
        (HEAD + "defaults: [mine]\n", r"takes itself as a default"),
        (HEAD + "defaults: [nowhere]\n", r"recipes=nowhere: no such option.*clip_rocov2"),
        (HEAD + "defaults: [{data: mni152}]\n", r"override /data: mni152"),
        (MINE + "hydra: 5\n", r"recipe 'mine'"),
        (MINE + "hydra: {mode: MULTIRUN, sweeper: {params: [1]}}\n", r"recipe 'mine'"),
        (MINE + "lr: 5\n", r"unknown key 'lr'"),
        (MINE + "optim: [1]\n", r"recipe 'mine': .*OptimConfig"),
        (MINE + "data: {sources: {x: 5}}\n", r"data.sources.x: "),
        (MINE + "tasks: a\n", r"tasks: "),
        (MINE + "stages: {a: 5}\n", r"stages.a: "),
        (MINE + "run_root: ${nothing.here}\n", r"recipe 'mine': .*nothing.here"),
        (MINE + "run_root: ${run_name}\nrun_name: ${run_root}\n", r"recipe 'mine': Recursive"),
        (MINE + "run_root: '${'\n", r"mine.yaml"),
    ],
)
def test_a_malformed_recipe_is_said_and_soon(folder, content, said):
    data = content if isinstance(content, bytes) else content.encode()
    (folder / "recipes/mine.yaml").write_bytes(data)
    began = time.process_time()
    with pytest.raises(ConfigError, match=said) as error:
        expand_grid("train", ["recipes=mine"], multirun=False)
    assert time.process_time() - began < 5
    assert len(str(error.value)) < 1500
    assert "mine" in list_options("recipes")
    verb_help("train")  # one damaged file does not take the help away


def test_options_and_tasks_are_read_within_the_same_bounds(folder):
    (folder / "configs/data/mine.yaml").write_text(BOMB)
    (folder / "configs/task/mine.yaml").write_text(BOMB)
    with pytest.raises(ConfigError, match=r"data.mine.yaml, line 5: its aliases"):
        compose("train", ["recipes=clip_rocov2", "data=mine"])
    with pytest.raises(ConfigError, match=r"task.mine.yaml, line 5: its aliases"):
        load_task("mine")


def test_an_anchor_that_is_used_is_fine(folder):
    (folder / "recipes/mine.yaml").write_text(f"{MINE}optim: &o {{lr: 1e-5}}\ntrainer: {{log_every: 7}}\n")
    config = compose("train", ["recipes=mine"])
    assert (config.optim.lr, config.trainer.log_every) == (1e-5, 7)


@pytest.mark.parametrize(
    "line",
    [
        "run_root: ${oc.env:SECRET}\n",
        "run_root: ${oc.env:SECRET,nothing}\n",
        "model: {text: {huggingface: 'org/${oc.env:SECRET}'}}\n",
        "run_root: '${oc.decode:${oc.env:SECRET}}'\n",
    ],
)
def test_a_recipe_reads_no_variable_of_the_environment_but_the_datas(folder, monkeypatch, line):
    monkeypatch.setenv("SECRET", "hunter2")
    monkeypatch.setenv("MEDVLP_DATA", "/elsewhere")
    (folder / "recipes/mine.yaml").write_text(MINE + line)
    with pytest.raises(ConfigError, match=r"no variable of the environment but MEDVLP_DATA") as error:
        compose("train", ["recipes=mine"])
    assert "hunter2" not in str(error.value)
    (folder / "configs/task/mine.yaml").write_text("name: a\nkind: retrieval\ndata: ${oc.env:SECRET}\n")
    with pytest.raises(ConfigError, match="MEDVLP_DATA"):
        load_task("mine")
    (folder / "recipes/mine.yaml").write_text(MINE + "run_root: ${oc.env:MEDVLP_DATA,data}/runs\n")
    assert compose("train", ["recipes=mine"]).run_root == "/elsewhere/runs"


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("train", ["recipes=clip_rocov2", "seed=2"]),
        ("train", ["recipes=clip_rocov2", "run_root=results"]),
        ("prep", ["recipes=prep_roco", "output=results"]),
    ],
)
def test_a_folder_of_results_that_is_named_like_a_key_changes_nothing(folder, verb, arguments):
    expected = compose(verb, arguments)
    for argument in arguments:
        key = argument.partition("=")[0]
        (folder / key).mkdir(exist_ok=True)
        (folder / key / "results.yaml").write_text("a: 1\n")
    assert compose(verb, arguments) == expected


def test_an_option_that_is_no_name_is_refused(folder):
    (folder / "configs/seed").mkdir()
    for argument in ("data=null", "seed=2"):
        with pytest.raises(
            ConfigError, match=f"{argument}: expected the name of an option, which is a file in the folder"
        ):
            compose("train", ["recipes=clip_rocov2", argument])
