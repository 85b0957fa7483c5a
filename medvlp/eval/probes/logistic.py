"""Ridge-penalised logistic regression, multinomial or a label at a time, of multi_label training sets at once.

The penalised loss is scikit-learn's: C · Σ loss + ½ ‖w‖², the intercept free. It is strictly convex, so that there is one
solution, whichever method finds it; this one is a truncated Newton method (Dembo & Steihaug 1983; for this loss Lin, Weng &
Keerthi 2008). Features are rotated to their principal axes, which changes no solution and makes a diagonal preconditioner
a good one; of more features than items, only the space that the items span is left.

Legend: E training sets, N items of each, D features, R features after the rotation and the constant one, M logits of an item
(1 of two classes or of a label, else one a class), P labels (1 unless they are fitted each for itself), K items to predict.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvlp.eval.errors import TaskError
from medvlp.eval.metrics import Array

TOLERANCE = 1e-6
"""A solution's gradient relative to its weights. The penalty has curvature 1, so that weights are as near to the optimum."""
_MOST_STEPS, _MOST_PRODUCTS, _MOST_HALVINGS = 200, 500, 40
_SUFFICIENT = 1e-4
"""Share of the decrease promised by the slope, from which on a step is taken (Armijo)."""
_TINY, _ROUNDING, _FLAT = 1e-300, 1e-14, 1e-10
"""The least divisor, the share of a sum that is rounding, and the share of a loss below which it is no guide."""

HessianProduct = Callable[[Array], Array]


@dataclass(frozen=True)
class Regression:
    """Training sets of logistic regressions, rotated and ready to be solved for any strength of the penalty.

    item_ENR: features, the last one constant. target_EMPN: 1 of the right class or of a label that is positive. weight_EPN: 0
    for what is no item or is not stated. mean_EXD, axis_EDR: the rotation, from D features to the first R − 1. multi_label: of
    labels, each for itself.
    """

    item_ENR: Array
    target_EMPN: Array
    weight_EPN: Array
    mean_EXD: Array
    axis_EDR: Array
    multi_label: bool = False

    @classmethod
    def of_classes(cls, feature_END: ArrayLike, target_EN: ArrayLike, classes: int) -> "Regression":
        """Of items of one class each, an index below `classes`; a negative index: no item, only padding."""
        target_EN = np.asarray(target_EN, np.int64)
        is_class_ECN = target_EN[:, None, :] == np.arange(classes)[:, None]
        target_EMPN = is_class_ECN[:, 1:, None] if classes == 2 else is_class_ECN[:, :, None]
        return cls._of(feature_END, target_EMPN.astype(np.float64), (target_EN >= 0)[:, None].astype(np.float64))

    @classmethod
    def of_labels(cls, feature_END: ArrayLike, target_ENL: ArrayLike) -> "Regression":
        """Of items with multi_label labels: 1, 0, or NaN where a label is not stated or there is no item. A label without
        positives or without negatives, of which the intercept has no optimum, is not fitted: its logits are 0."""
        target_EPN = np.swapaxes(np.asarray(target_ENL, np.float64), 1, 2)
        has_both_EP1 = ((target_EPN == 1).any(axis=2) & (target_EPN == 0).any(axis=2))[:, :, None]
        is_stated_EPN = (~np.isnan(target_EPN) & has_both_EP1).astype(np.float64)
        return replace(cls._of(feature_END, np.nan_to_num(target_EPN)[:, None], is_stated_EPN), multi_label=True)

    @classmethod
    def _of(cls, feature_END: ArrayLike, target_EMPN: Array, weight_EPN: Array) -> "Regression":
        feature_END = np.asarray(feature_END, np.float64)
        is_item_EN1 = weight_EPN.max(axis=1)[:, :, None]
        count_EX1 = np.maximum(is_item_EN1.sum(axis=1, keepdims=True), 1)
        mean_EXD = (feature_END * is_item_EN1).sum(axis=1, keepdims=True) / count_EX1
        centred_END = (feature_END - mean_EXD) * is_item_EN1
        axis_EDR = None
        if centred_END.shape[1] < centred_END.shape[2]:  # weights outside of the span of the items would be 0
            axis_EDR = np.linalg.qr(np.swapaxes(centred_END, 1, 2))[0]
            centred_END = centred_END @ axis_EDR
        principal_ERR = np.linalg.eigh(np.swapaxes(centred_END, 1, 2) @ centred_END)[1]
        rotated_ENR = centred_END @ principal_ERR
        item_ENR = np.concatenate([rotated_ENR, is_item_EN1], axis=2)
        axis_EDR = principal_ERR if axis_EDR is None else axis_EDR @ principal_ERR
        return cls(item_ENR, target_EMPN, weight_EPN, mean_EXD, axis_EDR)

    def rotate(self, feature_KD: ArrayLike) -> Array:
        """item_EKR of other items, of which `logits` are predicted."""
        rotated_EKR = np.asarray(feature_KD, np.float64) @ self.axis_EDR - self.mean_EXD @ self.axis_EDR
        return np.concatenate([rotated_EKR, np.ones((*rotated_EKR.shape[:2], 1))], axis=2)

    def logits(self, weight_EMPR: Array, item_EKR: Array) -> Array:
        """logit_EKC of classes, the mean of an item's 0, or logit_EKL of labels; items as `rotate` gives them."""
        logit_EMPK = logits_of(weight_EMPR, np.ascontiguousarray(np.swapaxes(item_EKR, 1, 2)))
        if self.multi_label:
            return np.swapaxes(logit_EMPK[:, 0], 1, 2)
        logit_ECK = logit_EMPK[:, :, 0]
        if logit_ECK.shape[1] == 1:
            logit_ECK = np.concatenate([-logit_ECK / 2, logit_ECK / 2], axis=1)
        return np.swapaxes(logit_ECK - logit_ECK.mean(axis=1, keepdims=True), 1, 2)

    def coefficients(self, weight_EMPR: Array) -> tuple[Array, Array]:
        """coefficient_EMPD and intercept_EMP of the features as they came."""
        coefficient_EMPD = np.einsum("empr,edr->empd", weight_EMPR[..., :-1], self.axis_EDR)
        return coefficient_EMPD, weight_EMPR[..., -1] - np.einsum("empd,ed->emp", coefficient_EMPD, self.mean_EXD[:, 0])

    def solve(self, strength_E: ArrayLike, start_EMPR: Array | None = None) -> Array:
        """weight_EMPR of the optimum, each within `TOLERANCE` of its own size.

        Args:
            strength_E: C of each training set, the inverse of the penalty.
            start_EMPR: weights to begin at, such as those of another C.

        Raises:
            TaskError: the optimum was not reached.
        """
        sets, _, features = self.item_ENR.shape
        logits, labels = self.target_EMPN.shape[1:3]
        weight_EMPR = np.zeros((sets, logits, labels, features)) if start_EMPR is None else start_EMPR
        loss = _Loss(self, np.asarray(strength_E, np.float64).reshape(sets, 1))
        point = loss(weight_EMPR)
        for _ in range(_MOST_STEPS):
            norm_EP = np.sqrt(_dot(point.gradient_EMPR, point.gradient_EMPR))
            size_EP = np.sqrt(_dot(weight_EMPR[..., :-1], weight_EMPR[..., :-1]))
            is_done_EP = norm_EP <= np.maximum(TOLERANCE * size_EP, loss.rounding_EP)
            if is_done_EP.all():
                return weight_EMPR
            # loose at first, and ever tighter: the steps converge faster than linearly
            forcing_EP = np.minimum(0.25, np.sqrt(norm_EP / np.maximum(size_EP, _TINY)))
            step_EMPR = loss.newton_step(point, forcing_EP * norm_EP, ~is_done_EP)
            weight_EMPR, point = _decrease(loss, weight_EMPR, point, step_EMPR, ~is_done_EP)
        raise TaskError(
            f"a logistic regression with C in {np.asarray(strength_E).tolist()} did not come to its optimum in {_MOST_STEPS} "
            f"steps"
        )


@dataclass(frozen=True)
class _Point:
    """The loss at some weights. probability_EMPN: of each logit's class."""

    value_EP: Array
    gradient_EMPR: Array
    probability_EMPN: Array


class _Loss:
    """C · Σ loss + ½ ‖w‖² of a `Regression`, its gradient, and the products of its second derivative with vectors."""

    def __init__(self, regression: Regression, strength_E1: Array) -> None:
        self.data, self.strength_E1 = regression, strength_E1
        self.item_ENR = regression.item_ENR
        self.item_ERN = np.ascontiguousarray(np.swapaxes(regression.item_ENR, 1, 2))
        self.square_ENR = np.square(regression.item_ENR)
        self.scale_EXPN = (strength_E1[..., None] * regression.weight_EPN)[:, None]
        self.rounding_EP = _ROUNDING * strength_E1 * regression.weight_EPN.sum(axis=2)
        self.penalty_R = np.append(np.ones(self.item_ENR.shape[2] - 1), 0.0)

    def __call__(self, weight_EMPR: Array) -> _Point:
        logit_EMPN = logits_of(weight_EMPR, self.item_ERN)
        target_EMPN = self.data.target_EMPN
        if logit_EMPN.shape[1] == 1:
            loss_EXPN = np.logaddexp(0.0, logit_EMPN) - target_EMPN * logit_EMPN
            probability_EMPN = np.exp(-np.logaddexp(0.0, -logit_EMPN))
        else:
            logit_EMPN = logit_EMPN - logit_EMPN.max(axis=1, keepdims=True)
            probability_EMPN = np.exp(logit_EMPN)
            sum_EXPN = probability_EMPN.sum(axis=1, keepdims=True)
            probability_EMPN /= sum_EXPN
            loss_EXPN = np.log(sum_EXPN) - (target_EMPN * logit_EMPN).sum(axis=1, keepdims=True)
        value_EP = (self.scale_EXPN * loss_EXPN).sum(axis=(1, 3)) + _dot(self.penalty_R * weight_EMPR, weight_EMPR) / 2
        gradient_EMPR = self._to_weights(self.scale_EXPN * (probability_EMPN - target_EMPN))
        return _Point(value_EP, gradient_EMPR + self.penalty_R * weight_EMPR, probability_EMPN)

    def newton_step(self, point: _Point, residual_EP: Array, is_open_EP: NDArray[np.bool_]) -> Array:
        """An approximate solution of H·step = −gradient by preconditioned conjugate gradients: until the residual is as small
        as asked for, and no step for problems that are not open."""
        probability_EMPN = point.probability_EMPN
        share_EMPN = self.scale_EXPN * probability_EMPN * (1 - probability_EMPN)
        diagonal_EMPR = self._to_weights(share_EMPN, self.square_ENR) + np.maximum(self.penalty_R, 1e-12)
        step_EMPR, residual_EMPR = np.zeros_like(point.gradient_EMPR), -point.gradient_EMPR
        direction_EMPR = residual_EMPR / diagonal_EMPR
        product_EP = _dot(residual_EMPR, direction_EMPR)
        for _ in range(_MOST_PRODUCTS):
            is_open_EP = is_open_EP & (np.sqrt(_dot(residual_EMPR, residual_EMPR)) > residual_EP)
            if not is_open_EP.any():
                break
            bent_EMPR = self._hessian_product(probability_EMPN, direction_EMPR)
            length_EP = product_EP / np.maximum(_dot(direction_EMPR, bent_EMPR), _TINY)
            length_EMPR = np.where(is_open_EP, length_EP, 0.0)[:, None, :, None]
            step_EMPR += length_EMPR * direction_EMPR
            residual_EMPR -= length_EMPR * bent_EMPR
            conditioned_EMPR = residual_EMPR / diagonal_EMPR
            next_EP = _dot(residual_EMPR, conditioned_EMPR)
            direction_EMPR = (
                conditioned_EMPR + (next_EP / np.maximum(product_EP, _TINY))[:, None, :, None] * direction_EMPR
            )
            product_EP = next_EP
        return step_EMPR

    def _hessian_product(self, probability_EMPN: Array, vector_EMPR: Array) -> Array:
        change_EMPN = logits_of(vector_EMPR, self.item_ERN)
        if change_EMPN.shape[1] == 1:
            curved_EMPN = (1 - probability_EMPN) * change_EMPN
        else:
            curved_EMPN = change_EMPN - (probability_EMPN * change_EMPN).sum(axis=1, keepdims=True)
        return self._to_weights(self.scale_EXPN * probability_EMPN * curved_EMPN) + self.penalty_R * vector_EMPR

    def _to_weights(self, value_EMPN: Array, item_ENR: Array | None = None) -> Array:
        """Σ over the items of a value of each logit times the items' features."""
        sets, logits, labels, count = value_EMPN.shape
        item_ENR = self.item_ENR if item_ENR is None else item_ENR
        return (value_EMPN.reshape(sets, logits * labels, count) @ item_ENR).reshape(sets, logits, labels, -1)


def logits_of(weight_EMPR: Array, item_ERK: Array) -> Array:
    """logit_EMPK of items whose features lie in the second axis."""
    sets, logits, labels, features = weight_EMPR.shape
    flat_EJR = np.ascontiguousarray(weight_EMPR).reshape(sets, logits * labels, features)
    return (flat_EJR @ item_ERK).reshape(sets, logits, labels, -1)


def _decrease(
    loss: _Loss, weight_EMPR: Array, point: _Point, step_EMPR: Array, is_open_EP: NDArray[np.bool_]
) -> tuple[Array, _Point]:
    """Weights after a step, of a problem in which it does not decrease the loss after a part of it. Where the loss is flat to
    the last digits, a smaller gradient says as much (Hager & Zhang 2005)."""
    slope_EP, norm_EP = _dot(point.gradient_EMPR, step_EMPR), _dot(point.gradient_EMPR, point.gradient_EMPR)
    length_EP = is_open_EP.astype(np.float64)
    flat_EP = _FLAT * np.abs(point.value_EP)
    for _ in range(_MOST_HALVINGS):
        next_EMPR = weight_EMPR + length_EP[:, None, :, None] * step_EMPR
        next_point = loss(next_EMPR)
        rise_EP = next_point.value_EP - point.value_EP
        is_smaller_EP = _dot(next_point.gradient_EMPR, next_point.gradient_EMPR) < norm_EP
        is_short_EP = is_open_EP & ~(
            (rise_EP <= _SUFFICIENT * length_EP * slope_EP) | ((rise_EP <= flat_EP) & is_smaller_EP)
        )
        if not is_short_EP.any():
            break
        length_EP = np.where(is_short_EP, length_EP / 2, length_EP)
    return next_EMPR, next_point


def _dot(a_EMPR: Array, b_EMPR: Array) -> Array:
    """(E, P) inner products of all weights of a problem."""
    return np.asarray(np.einsum("empr,empr->emp", a_EMPR, b_EMPR).sum(axis=1), np.float64)
