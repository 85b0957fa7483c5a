"""Batched answers are those of transformers' own generate, one prompt at a time."""

import numpy as np
import pytest
import torch

from medvlp.builders.llava import build_assistant, chat_encoder
from medvlp.config import LanguageConfig, LlavaConfig, TowerConfig
from medvlp.models.llava.generate import BatchedGenerator, group, shared_prompt_prefix
from medvlp.shards import Turn
from tests.assistants import SIDE, tiny_language, tiny_tower

NEW = 24


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def assistant(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generate")
    tower, language = tiny_tower(folder / "tower"), tiny_language(folder / "language", request.param)
    config = LlavaConfig(vision=TowerConfig(source=str(tower)), language=LanguageConfig(source=str(language)))
    torch.manual_seed(3)
    made = build_assistant(config)
    made.model.eval()
    return made


def user(text):
    return Turn("user", text)


def said(text):
    return Turn("assistant", text)


CONVERSATIONS = [
    # (images, conversations about them): several questions of an image, several turns, several images, none
    (1, [[user("<image>\nIs the heart enlarged?")], [user("<image>\nWhere is the lesion?")], [user("<image>\nNo.")]]),
    (1, [[user("<image>\nIs it?"), said("Yes"), user("What does the image show, and where is it?")]]),
    (0, [[user("What is a lung?")], [user("Answer.")], [Turn("system", "Answer briefly."), user("What is a lesion?")]]),
    (2, [[user("<image>\n<image>\nIs the lesion in both?")], [user("<image> and <image>: which is the lung?")]]),
    (1, [[user("Is this a chest? <image>")], [user("Where is the heart in <image>?")]]),
    (3, [[user("<image><image>"), said("No."), user("<image>\nWhat is small here?")]]),
]


@pytest.fixture(scope="module")
def jobs(assistant):
    encoder = chat_encoder(assistant, LanguageConfig())
    made = torch.Generator().manual_seed(5)
    prompts = []
    for images, conversations in CONVERSATIONS:
        pixels = torch.randn(images, 3, SIDE, SIDE, generator=made) if images else torch.empty(0)
        prompts += [(encoder.prompt(turns, images), pixels) for turns in conversations]
    return prompts


def generated(assistant, job, stop_ids, new=NEW):
    """transformers' ids of one answer."""
    ids, pixels = job
    given = torch.from_numpy(ids)[None]
    images = {"pixel_values": pixels} if pixels.numel() else {}
    out = assistant.model.generate(
        input_ids=given,
        attention_mask=torch.ones_like(given),
        **images,
        do_sample=False,
        max_new_tokens=new,
        eos_token_id=stop_ids,
        pad_token_id=assistant.pad_id,
    )
    return out[0, len(ids) :].tolist()


def text_of(assistant, ids):
    return assistant.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_answers_are_those_of_generate_on_each_prompt_alone(assistant, jobs, batch_size):
    generator = BatchedGenerator(assistant, batch_size=batch_size)
    expected = [text_of(assistant, generated(assistant, job, generator.stop_ids)) for job in jobs]
    assert generator.generate(jobs, NEW) == expected
    assert len(set(expected)) > 6  # the prompts matter, and so do the images


def test_answers_end_at_a_stop_token_while_others_go_on(assistant, jobs):
    free = [generated(assistant, job, []) for job in jobs]
    assert all(len(ids) == NEW for ids in free)
    stop = free[0][2]  # ends the first answer after two tokens, or before
    generator = BatchedGenerator(assistant, stop_ids=[stop])
    lengths = [ids.index(stop) if stop in ids else NEW for ids in free]
    assert min(lengths) <= 2
    assert max(lengths) == NEW
    expected = [text_of(assistant, ids[:length]) for ids, length in zip(free, lengths, strict=True)]
    assert generator.generate(jobs, NEW) == expected
    for job, text in zip(jobs, expected, strict=True):
        assert text_of(assistant, [t for t in generated(assistant, job, generator.stop_ids) if t != stop]) == text


def test_a_repetition_penalty_of_the_language_model_is_not_applied(assistant, jobs, monkeypatch):
    plain = BatchedGenerator(assistant).generate(jobs, NEW)
    monkeypatch.setattr(assistant.model.generation_config, "repetition_penalty", 1.5)
    assert BatchedGenerator(assistant).generate(jobs, NEW) == plain
    assert [
        text_of(assistant, generated(assistant, job, BatchedGenerator(assistant).stop_ids)) for job in jobs
    ] != plain


def test_an_image_is_looked_at_once_for_all_its_questions(assistant, jobs, monkeypatch):
    seen = []
    tower = assistant.model.model.vision_tower
    handle = tower.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    BatchedGenerator(assistant).generate(jobs, 1)
    handle.remove()
    assert sum(seen) == sum(images for images, _ in CONVERSATIONS)


def test_the_pixels_decide_what_is_seen(assistant, jobs):
    generator = BatchedGenerator(assistant)
    other = [(ids, torch.randn(pixels.shape) if pixels.numel() else pixels) for ids, pixels in jobs]
    changed = [a != b for a, b in zip(generator.generate(jobs, NEW), generator.generate(other, NEW), strict=True)]
    assert not any(change for change, (_, pixels) in zip(changed, jobs, strict=True) if not pixels.numel())
    assert any(changed)


def test_likelihoods_are_those_of_a_full_forward(assistant, jobs):
    options = [[np.array(ids) for ids in ([7], [9, 30, 31], [12, 13])[: 1 + j % 3]] for j in range(len(jobs))]
    likelihoods = BatchedGenerator(assistant, batch_size=5).loglikelihood(jobs, options)
    for (ids, pixels), job_options, answers in zip(jobs, options, likelihoods, strict=True):
        for option, (total, count) in zip(job_options, answers, strict=True):
            whole = torch.from_numpy(np.concatenate([ids, option]))[None]
            images = {"pixel_values": pixels} if pixels.numel() else {}
            with torch.no_grad():
                logprob = assistant.model(input_ids=whole, **images).logits[0].log_softmax(-1)
            positions = torch.arange(len(ids) - 1, whole.shape[1] - 1)
            assert total == pytest.approx(float(logprob[positions, whole[0, positions + 1]].sum()), abs=1e-4)
            assert count == len(option)


def test_every_module_gets_its_mode_back(assistant, jobs):
    model = assistant.model
    model.train()
    model.model.vision_tower.eval()
    before = [module.training for module in model.modules()]
    try:
        BatchedGenerator(assistant).generate(jobs[:1], 2)
        assert [module.training for module in model.modules()] == before
    finally:
        model.eval()


def test_what_does_not_fit_is_refused(assistant, jobs):
    generator = BatchedGenerator(assistant)
    assert generator.longest == 1024
    with pytest.raises(ValueError, match=r"takes \d+ tokens; this language model was made for 1024"):
        generator.generate(jobs, 1000)
    with pytest.raises(ValueError, match="no tokens"):
        generator.loglikelihood(jobs[:1], [[np.array([], np.int64)]])
    with pytest.raises(ValueError, match="8 image tokens, its images give 4"):
        generator.generate([(jobs[8][0], jobs[0][1])], 1)


@pytest.mark.parametrize(
    ("prompts", "reserved", "expected"),
    [
        ([[1, 9, 9, 4, 5, 6], [1, 9, 9, 4, 7]], 0, 3),  # up to the image's end, though 4 is common too
        ([[1, 2, 3, 4], [1, 2, 5]], 0, 2),
        ([[1, 2, 3]], 0, 2),  # one token stays behind, to answer from
        ([[1, 2, 3, 4, 5]], 2, 2),
        ([[1, 9, 9], [1, 9, 9]], 0, 2),
        ([[2, 9], [3, 9]], 0, 0),
        ([[1]], 0, 0),
    ],
)
def test_what_prompts_share(prompts, reserved, expected):
    assert shared_prompt_prefix([np.array(ids) for ids in prompts], reserved, image_id=9) == expected


def test_jobs_are_grouped_by_the_very_same_pixels():
    first, second = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    ids = np.array([1])
    assert group([(ids, first), (ids, first), (ids, second), (ids, first)]) == [[0, 1], [2], [3]]
