"""Records and protocol of a probe.

Legend: N scored samples, E draws, C classes, L labels.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from medvlp.eval import metrics
from medvlp.eval.classification.records import class_counts, several_records, single_records, uncounted_lines
from medvlp.eval.probes.fitting import Fitted, Probing
from medvlp.eval.probes.logistic import TOLERANCE
from medvlp.eval.probes.metrics import FEW_SHOT, NEIGHBOURS
from medvlp.eval.probes.neighbours import TEMPERATURE

MOST_CLASSES = 20
"""Of more classes the records of few shots have the rank of the right class only, of which there is no AUROC."""
FULL = "full"
"""Name of the fit on all samples."""


def probe_records(probing: Probing, fits: Mapping[str, Fitted]) -> list[dict[str, Any]]:
    """A record a sample: of the probe on all samples as other kinds have it, then `few_shot` and `neighbours`."""
    scored, multi_label = probing.scored, probing.config.multi_label
    logit_NL = fits[FULL].logit_EKL[0]
    if multi_label:
        threshold = fits[FULL].protocol["threshold"]
        records = several_records(probing.classes, scored.items, scored.target_NL, logit_NL, threshold)
    else:
        target_N = scored.target_NL.argmax(axis=1)
        records = single_records(probing.classes, scored.items, target_N, logit_NL)
    for name, fitted in fits.items():
        if name == NEIGHBOURS:
            columns = fitted.logit_EKL[0].tolist()
        elif name == FULL:
            continue
        elif multi_label or len(probing.classes) <= MOST_CLASSES:
            columns = [{"logits": logit_EL.tolist()} for logit_EL in fitted.logit_EKL.swapaxes(0, 1)]
        else:
            rank_NE = np.stack([metrics.target_ranks(logit_NC, target_N) for logit_NC in fitted.logit_EKL], axis=1)
            columns = [{"ranks": rank_E.tolist()} for rank_E in rank_NE]
        for record, column in zip(records, columns, strict=True):
            if name == NEIGHBOURS:
                record[NEIGHBOURS] = column
            else:
                record.setdefault(FEW_SHOT, {})[name] = column
    return records


def probe_protocol(probing: Probing, fits: Mapping[str, Fitted]) -> dict[str, Any]:
    """What decides the numbers of a probe, and what was chosen."""
    config, multi_label = probing.config, probing.config.multi_label
    few_shot = {name: fitted.protocol for name, fitted in fits.items() if name.isdecimal()}
    of_full = dict(fits[FULL].protocol)
    lines: dict[str, Any] = {
        "label": config.label,
        "classes": list(probing.classes),
        "exclude": list(config.exclude),
        "multi_label": multi_label,
        "class_counts": class_counts(probing.classes, probing.scored.target_NL, multi_label),
        **({"positive": config.positive} if config.positive else {}),
        "embeddings": "of images, unit vectors as the model gives them, not standardised",
        "solver": f"minimum of C · Σ loss + ½ ‖w‖², intercept free, weights within {TOLERANCE:g} of the optimum's",
        "search": {"strengths": list(config.strengths), "halvings": config.halvings},
        "choice": f"the highest {'mean AUROC' if multi_label else 'accuracy'} on chosen_on, of equals the smallest C",
        "probabilities": "sigmoid of each logit" if multi_label else "softmax of the logits",
        "auroc": "mean over the classes that have both sides; ties count one half",
    }
    if multi_label:
        lines |= {"threshold": of_full.pop("threshold"), "threshold_choice": "highest F1 on chosen_on, a class"}
    lines["linear_probe"] = of_full | {"fit": "with the chosen C on fitted_on and chosen_on together"}
    if few_shot:
        lines["few_shot"] = {
            "shots": few_shot,
            "draws": config.draws,
            "seed": config.seed,
            "shot": "a sample with each class and one without it" if multi_label else "a sample of each class",
            "fit": "on the shots alone; C of each draw chosen on all of chosen_on",
        }
    if NEIGHBOURS in fits:
        votes = {"temperature": TEMPERATURE, "vote": "exp(cosine / temperature)"}
        lines["knn"] = fits[NEIGHBOURS].protocol | votes | {"fit": "fitted_on and chosen_on vote"}
    if few_shot and not multi_label and len(probing.classes) > MOST_CLASSES:
        lines["omitted"] = {"few-shot AUROC": f"of more than {MOST_CLASSES} classes, records have ranks alone"}
    return lines


def fitting_lines(probing: Probing, split: str) -> list[str]:
    """Samples that are not fitted, classes that are not scored or not fitted, and classes with fewer samples than shots. split:
    that is fitted."""
    lines = [f"not fitted: {count} samples of {split}: {reason}" for reason, count in probing.fit.excluded.items()]
    target_NL = probing.scored.target_NL
    if probing.config.multi_label:
        lines += uncounted_lines(probing.classes, target_NL)
        has_negatives_L = (probing.fit.target_NL == 0).any(axis=0)
        lines += [
            f"class {name!r} has no negatives to fit: its logits are 0 and its AUROC 0.5"
            for name, has_negatives in zip(probing.classes, has_negatives_L, strict=True)
            if not has_negatives
        ]
    else:
        count_of = dict(zip(probing.classes, (target_NL == 1).sum(axis=0), strict=True))
        lines += [f"0 samples: class {name!r} has none here" for name, count in count_of.items() if not count]
    for name, count in zip(probing.classes, (probing.fit.target_NL == 1).sum(axis=0), strict=True):
        if short := [shots for shots in probing.config.shots if shots > count]:
            lines.append(f"class {name!r} has {count} samples to fit, fewer than {min(short)} shots")
    return lines
