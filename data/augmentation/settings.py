"""The settings of the augmentation: the recipe's `augment` section. Free of albumentations and torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from data.augmentation.effect import Effect, SettingsT
from data.augmentation.effects import KINDS
from data.augmentation.strengths import STRENGTHS, StrengthName

BASICS = tuple(STRENGTHS["none"])
"""The keys of flips, turns, crop, colours and blur, which `strength: none` sets to 0."""

Fraction = Annotated[float, Field(ge=0, le=1)]


def _some_area(crop_scale: tuple[float, float]) -> tuple[float, float]:
    if not 0.0 < crop_scale[0] <= crop_scale[1]:
        raise ValueError("must be 0 < smallest <= largest <= 1")
    return crop_scale


def _rising(amount: tuple[float, float]) -> tuple[float, float]:
    if not amount[0] <= amount[1]:
        raise ValueError("must be 0 <= least <= most <= 1")
    return amount


class _BasicSettings(BaseModel):
    """The keys that belong to no single effect."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    strength: StrengthName = Field(
        "basic", description=f"defaults of all keys below: {', '.join(STRENGTHS)}; a key given here wins"
    )
    view: Literal["top_down", "oblique"] = Field(
        "top_down", description="top_down may be turned any way; oblique is only mirrored left and right"
    )
    hflip: Fraction = Field(0.5, description="probability of mirroring left and right")
    vflip: Fraction = Field(0.5, description="probability of mirroring top and bottom; 0 for oblique cameras")
    rotate90: Fraction = Field(0.5, description="probability of a quarter turn; 0 for oblique cameras")
    scale_crop: Fraction = Field(0.7, description="probability of cutting out a part and scaling it up")
    crop_scale: Annotated[tuple[Fraction, Fraction], AfterValidator(_some_area)] = Field(
        (0.4, 1.0), description="share of the area that the crop keeps, smallest and largest"
    )
    brightness: Fraction = Field(0.25, description="largest change of brightness, either way, as a share of white")
    contrast: Fraction = Field(0.25, description="largest change of the contrast factor, either way")
    hue: Fraction = Field(0.015, description="largest shift along the colour circle, either way; green means plant")
    saturation: Fraction = Field(0.15, description="largest change of saturation, either way")
    blur: Fraction = Field(0.1, description="probability of a motion or Gaussian blur of up to 7 pixels")
    min_visibility: Fraction = Field(0.3, description="boxes with less of their area left in the frame are dropped")
    amount: Annotated[tuple[Fraction, Fraction], AfterValidator(_rising)] = Field(
        (0.2, 0.8), description="strength of the effects below, least and most: 0 hardly visible, 1 strongest"
    )
    mixes_end: Fraction = Field(
        0.9,
        description="share of the run after which "
        + ", ".join(kind.name for kind in KINDS if kind.group == "mix")
        + " stop, so that training ends on unmixed images",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_strength(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        named = given.get("strength", "basic")
        fragment = STRENGTHS[named] if named in tuple(STRENGTHS) else {}
        upright = {"vflip": 0.0, "rotate90": 0.0} if given.get("view") == "oblique" else {}
        return {**fragment, **upright, **given}

    @model_validator(mode="after")
    def _keys_go_together(self) -> Self:
        if self.view == "oblique" and (self.vflip > 0 or self.rotate90 > 0):
            raise ValueError("view oblique has an up and a down: vflip and rotate90 must be 0")
        for kind in KINDS:
            try:
                self.of(kind)
            except ValidationError as error:  # from keys of one effect that do not go together
                first = error.errors()[0]
                raise ValueError(str(first.get("ctx", {}).get("error", first["msg"]))) from None
        return self

    def probability(self, kind: Effect[Any]) -> float:
        """The probability that an effect is applied to an image, 0 to 1."""
        return float(getattr(self, kind.name))

    def of(self, kind: Effect[SettingsT]) -> SettingsT:
        """The settings that belong to an effect."""
        return kind.settings(**{name: getattr(self, name) for name in kind.settings.model_fields})

    def only(self, **changes: Any) -> Self:
        """These settings with everything switched off but what `changes` switches on.

        Raises:
            ValueError: no such key, or a value out of its range.

        """
        off = {**STRENGTHS["none"], **{kind.name: 0.0 for kind in KINDS}}
        return type(self)(**{**self.model_dump(), **off, **changes})

    @property
    def images_in_one(self) -> int:
        """The most images of the dataset that one training image can be made of."""
        return 1 + sum(kind.others for kind in KINDS if self.probability(kind) > 0)


def _effect_fields() -> dict[str, tuple[Any, Any]]:
    """A probability for each effect, then the effects' own keys."""
    fields: dict[str, tuple[Any, Any]] = {
        kind.name: (Fraction, Field(0.0, description=f"probability of {kind.description}")) for kind in KINDS
    }
    taken = {*_BasicSettings.model_fields, *fields}
    if len(fields) < len(KINDS) or len(taken) < len(_BasicSettings.model_fields) + len(fields):
        raise TypeError("two effects of one name, or an effect with the name of another key")
    for kind in KINDS:
        for name, info in kind.settings.model_fields.items():
            if name in taken or repr(fields.get(name, (None, info))[1]) != repr(info):
                raise TypeError(f"effect {kind.name}: its key {name} is taken")
            fields[name] = (info.annotation, info)
    return fields


if TYPE_CHECKING:

    class AugmentSettings(_BasicSettings):
        """How training images are varied."""

        def __init__(self, **keys: Any) -> None: ...

else:
    AugmentSettings = create_model(
        "AugmentSettings", __base__=_BasicSettings, __module__=__name__, **_effect_fields()
    )
    AugmentSettings.__doc__ = """How training images are varied: flips, crops and colours, and the effects of `KINDS`.

    Each effect has a key of its name, its probability, 0 unless the recipe or its `strength` says otherwise; its own
    settings are keys beside it. A key that is given wins over the named strength.

    Example:
        >>> AugmentSettings(strength="field", rain=0.1, speed_kmh=(4, 12))

    Raises:
        ValueError: an unknown key, a value out of its range, or turns of an oblique view.

    """
