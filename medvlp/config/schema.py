"""What can be configured: plain dataclasses, one a group. YAML under `configs/` and `recipes/` supplies the values.

The string under a field is its help text: `medvlp <verb> --help` prints it.
Choices are strings checked in `checks.py`, because OmegaConf has no `Literal` and its enums refuse `bf16-mixed`.
"""

from dataclasses import dataclass, field

from omegaconf import MISSING


@dataclass(kw_only=True)
class SourceConfig:
    """One prepared dataset in a training blend."""

    path: str = MISSING
    """Folder of one split, as `medvlp prep` writes it: the one that holds manifest.json."""
    weight: float = 1.0
    """Passes over this source in one epoch: 2 shows every sample twice, 0.5 another half each epoch."""
    texts: list[str] = field(default_factory=lambda: ["caption*"])
    """Text fields to train on; `caption*` is all captions of a sample (`caption`, `caption_1`, …), `caption` the first alone.
    Of several that a sample has one is drawn each time, by seed, epoch and position; instruct asks for each."""
    questions: list[str] = field(default_factory=list)
    """instruct: for samples without conversations, what their texts answer; one question is chosen by the sample's key."""
    question: str = ""
    """instruct: other words for each last question, e.g. `{question} Look at the region {box}.`; `{name}` is a field of the
    conversation's metadata."""
    answer: str = ""
    """instruct: other words for each last answer, e.g. `{rationale} The answer: {answer}`."""


@dataclass(kw_only=True)
class AugmentConfig:
    """Random crops. There is no flip: it would turn left findings into right ones."""

    scale: list[float] = field(default_factory=lambda: [0.9, 1.0])
    """Smallest and largest share of the image's area that a crop keeps."""
    ratio: list[float] = field(default_factory=lambda: [0.75, 1.3333333333333333])
    """Narrowest and widest aspect ratio of a crop."""


@dataclass(kw_only=True)
class DataConfig:
    """What is trained on, and how it is read."""

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    """The blend by name; `data=[roco,quilt]` joins two options, `data.sources.a.weight=2` changes one."""
    global_batch_size: int = 64
    """Samples in one optimizer step, over all ranks and accumulated batches."""
    workers: int = 2
    """Loader processes a rank. Neither the order nor the augmentation depends on it."""
    shuffle_block: int = 0
    """Neighbouring samples read together, for disks where random reads are slow; 0 shuffles sample by sample."""
    shuffle_window: int = 64
    """Blocks mixed with each other when shuffle_block is set."""
    max_bad_fraction: float = 0.01
    """Share of distinct samples that may be unreadable before the run stops."""
    max_pixels: int = 64_000_000
    """Images with more pixels than this are bad samples (a decompression bomb's defence)."""
    log_samples: bool = False
    """Write the keys of every step to samples.jsonl."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(kw_only=True)
class ImageConfig:
    """From a decoded image to the tower's input."""

    size: int | None = None
    """Side of the square input in pixels; null is a named model's own, else 224."""
    mean: list[float] | None = None
    """Channel means on the 0–1 scale; null is a named model's own, else CLIP's."""
    std: list[float] | None = None
    """Channel deviations on the 0–1 scale; null is a named model's own, else CLIP's."""
    resize_mode: str | None = None
    """For evaluation: shortest (then centre crop), longest (then pad) or squash; null is a named model's own, else shortest."""


@dataclass(kw_only=True)
class VisionConfig:
    """An image tower from timm, when `model.name` is empty."""

    timm: str = "vit_base_patch16_224"
    """Any timm architecture."""
    weights: str = ""
    """Empty (random), `timm` (its own pretrained ones), `package:<package>/<file>`, or a local file."""
    pool: str = "avg"
    """How timm pools: avg, token, map, abs_attn, rot_attn, or empty for its own default."""
    proj: str = "linear"
    """Projection into the shared space: linear, mlp or none."""


@dataclass(kw_only=True)
class TextConfig:
    """A text tower from transformers, when `model.name` is empty."""

    huggingface: str = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
    """Hub name, local folder, or `package:<package>/<folder>` of a tower that open_clip can take: BERT (BiomedBERT, MiniLM, ...),
    RoBERTa, XLM-R, mT5 or M2M-100."""
    pretrained: bool = True
    """Load its weights, or only its architecture and tokenizer."""
    pooler: str = "mean_pooler"
    """mean_pooler, cls_pooler or cls_last_hidden_state_pooler: open_clip's names."""
    proj: str = "linear"
    """Projection into the shared space: linear or mlp."""
    context_length: int | None = None
    """Tokens a caption is cut to, at most the positions of the tower; null is a named model's own, else 128."""


@dataclass(kw_only=True)
class ModelConfig:
    """Base of every model's options."""

    kind: str = MISSING
    """Which model this is; the option chosen for `model` sets it."""


@dataclass(kw_only=True)
class ClipConfig(ModelConfig):
    """A CLIP model: one of open_clip's, or any timm image tower beside any transformers text tower."""

    kind: str = "clip"
    """Which model this is; the option chosen for `model` sets it."""
    name: str = ""
    """open_clip architecture (`ViT-B-16`) or a JSON file in its format, which `image` and `text.context_length` may change;
    empty: `vision` beside `text`."""
    pretrained: str = ""
    """Weights for `name`: an open_clip tag, a local file, or `package:<package>/<file>`; empty is random."""
    embed_dim: int = 512
    """Width of the shared space of `vision` and `text`."""
    temperature: float = 0.07
    """Starting temperature of `vision` and `text`; the logit scale is its inverse."""
    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    image: ImageConfig = field(default_factory=ImageConfig)


@dataclass(kw_only=True)
class ObjectiveConfig:
    """Base of every objective's options."""

    kind: str = MISSING
    """Which objective this is; the option chosen for `objective` sets it."""


@dataclass(kw_only=True)
class ContrastiveConfig(ObjectiveConfig):
    """InfoNCE over the global batch."""

    kind: str = "contrastive"
    """Which objective this is; the option chosen for `objective` sets it."""
    max_logit_scale: float = 100.0
    """The learned logit scale is held at or below this, as in CLIP."""
    same_text: str = "negative"
    """Pairs of one batch whose texts are identical: negative (CLIP); masked, left out of each other's loss; mil_nce, any of
    their images may be found for the text; or apart, dealt out to different batches, as far as an epoch has batches, and
    masked where they meet all the same."""
    positives: str = ""
    """What makes pairs right for each other although their texts differ: empty (nothing), group (one article, patient or
    study), or label.<name>. Unknown values join nothing."""


@dataclass(kw_only=True)
class PartConfig:
    """How one part of a model learns."""

    freeze: bool = False
    """Keep its weights, and keep it in eval mode (no dropout, batch norm statistics fixed)."""
    lr: float | None = None
    """Its own peak learning rate instead of optim.lr."""


@dataclass(kw_only=True)
class OptimConfig:
    """AdamW with warm-up and decay."""

    lr: float = 5e-4
    """Peak learning rate."""
    weight_decay: float = 0.2
    """Decay of matrices; biases, norms, embeddings of position and scalars are spared."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.98
    """Decay of the mean of squared gradients."""
    eps: float = 1e-6
    """Added to the root of the mean of squared gradients."""
    warmup_steps: int = 0
    """Steps of linear warm-up."""
    schedule: str = "cosine"
    """After warm-up: cosine, linear or constant."""
    final_lr_fraction: float = 0.0
    """Where cosine and linear end, as a share of the peak."""
    clip_norm: float = 0.0
    """Global norm that gradients are clipped to; 0 does not clip."""
    parts: dict[str, PartConfig] = field(default_factory=dict)
    """By part of the model (CLIP: vision, vision_head, text, text_head, logit_scale)."""


@dataclass(kw_only=True)
class TrainerConfig:
    """How long, how precisely and how often."""

    max_steps: int | None = None
    """Optimizer steps in all. With max_epochs too, the run ends at the first; on the command line, one replaces the other."""
    max_epochs: int | None = None
    """Passes over the blend. With max_steps too, the run ends at the first; on the command line, one replaces the other."""
    precision: str = "32-true"
    """Lightning's names: 32-true, 64-true, bf16-mixed, bf16-true, 16-mixed."""
    accelerator: str = "auto"
    """auto, cpu, gpu or another of Lightning's names."""
    strategy: str = "auto"
    """auto (DDP where there are several ranks) or ddp."""
    accumulate: int = 1
    """Batches whose gradients make one step; refused by contrastive objectives."""
    compile: bool = False
    """torch.compile the towers."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = 500
    """Steps between two checkpoints; the last three and the best are kept."""
    eval_every: int = 0
    """Steps between two runs of `tasks` on their `valid_split`; 0 evaluates at the end only."""
    monitor: str = ""
    """`<task>/<metric>` that chooses best.ckpt, e.g. rocov2_retrieval/text_to_image_recall@10."""
    loggers: list[str] = field(default_factory=list)
    """Beside metrics.jsonl: tensorboard, wandb, wandb-offline."""


@dataclass(kw_only=True)
class TrainConfig:
    """medvlp train"""

    verb: str = "train"
    """The command that a recipe is for."""
    run_name: str = "run"
    """The run's folder is <run_root>/<run_name>."""
    run_root: str = "runs"
    """Where runs are kept."""
    seed: int = 0
    """Seeds initialisation, order, augmentation and dropout."""
    resume: str = "none"
    """none, auto (the newest whole checkpoint of this run, or a fresh start), or a checkpoint's path."""
    init_from: str = ""
    """A checkpoint of another run whose weights this one starts from."""
    init_parts: list[str] = field(default_factory=list)
    """Which parts of init_from to take; empty takes all."""
    stages: dict[str, list[str]] = field(default_factory=dict)
    """Runs one after the other, by name, each with its own overrides; each starts from the former's last checkpoint. The last
    one's folder is run_name, the others' run_name__<stage>. What the command line gives holds for all."""
    tasks: list[str] = field(default_factory=list)
    """Evaluation tasks run during training, on their `valid_split`."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = MISSING
    objective: ObjectiveConfig = MISSING
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


@dataclass(kw_only=True)
class TaskConfig:
    """One evaluation task: a file of configs/task/."""

    name: str = MISSING
    """Name in results.jsonl."""
    kind: str = MISSING
    """zero_shot or retrieval (of a CLIP), or vqa (of an assistant)."""
    data: str = MISSING
    """Folder above the splits."""
    split: str = "test"
    """Split that `medvlp eval` scores."""
    valid_split: str = "valid"
    """Split that is scored during training."""
    valid_limit: int = 0
    """vqa: questions asked during training, spread over the split; 0 asks all."""
    label: str = ""
    """zero_shot: the label that holds the class."""
    classes: dict[str, list[str]] = field(default_factory=dict)
    """zero_shot: label value → names that go into the templates."""
    exclude: list[str] = field(default_factory=list)
    """zero_shot: label values that are no class on purpose. A label that is neither, beside a class that no sample has, is
    refused as a slip."""
    templates: list[str] = field(default_factory=list)
    """zero_shot: prompts with {} for the name."""
    text: str = "caption"
    """retrieval: the text field."""
    recall_at: list[int] = field(default_factory=lambda: [1, 5, 10])
    """retrieval: ranks k of recall@k."""
    instruction: str = ""
    """vqa: text appended to every question, on a line of its own; empty asks as trained."""
    languages: list[str] = field(default_factory=list)
    """vqa: languages of the questions that are asked, e.g. [en]; empty asks all."""
    answer_types: list[str] = field(default_factory=list)
    """vqa: of closed, open, multiple_choice; empty asks all."""
    max_new_tokens: int = 64
    """vqa: tokens of an answer at most."""
    controls: list[str] = field(default_factory=lambda: ["best_constant", "blank_image", "shuffled_images"])
    """vqa: what stands beside every main score in `medvlp eval`; the two with images answer all questions anew."""


@dataclass(kw_only=True)
class EvalConfig:
    """medvlp eval"""

    verb: str = "eval"
    """The command that a recipe is for."""
    checkpoints: list[str] = MISSING
    """Checkpoints to compare, `[a.ckpt,b.ckpt]`."""
    tasks: list[str] = MISSING
    """Tasks to run; `medvlp list tasks` shows them."""
    output: str = ""
    """Folder of the results; default runs/eval/<recipe>."""
    split: str = ""
    """Score this split instead of the one that each task names."""
    batch_size: int = 64
    """Images (of a CLIP) or questions (to an assistant) at once."""
    workers: int = 2
    """Loader processes."""
    resamples: int = 10_000
    """Bootstrap resamples behind every interval."""
    seed: int = 0
    """Seeds the bootstrap, and which images are exchanged for which."""
    accelerator: str = "auto"
    """auto, cpu or gpu."""
    max_pixels: int = 64_000_000
    """Images with more pixels than this are bad samples."""


@dataclass(kw_only=True)
class ExportConfig:
    """medvlp export"""

    verb: str = "export"
    """The command that a recipe is for."""
    checkpoint: str = MISSING
    """A checkpoint of medvlp train."""
    format: str = "open_clip"
    """open_clip (CLIP models) or hf (assistants: a folder for transformers)."""
    adapter: str = "merged"
    """hf, of LoRA: merged into the language model, or separate, a folder for peft beside it."""
    output: str = MISSING
    """Folder to write."""


@dataclass(kw_only=True)
class AskConfig:
    """medvlp ask"""

    verb: str = "ask"
    """The command that a recipe is for."""
    checkpoint: str = MISSING
    """A checkpoint of an assistant."""
    image: list[str] = field(default_factory=list)
    """An image file, or several as `[a.png,b.png]`: JPEG, PNG or WebP."""
    max_new_tokens: int = 256
    """Tokens of an answer at most."""
    accelerator: str = "auto"
    """auto, cpu or gpu."""
    max_pixels: int = 64_000_000
    """Images with more pixels than this are refused."""
