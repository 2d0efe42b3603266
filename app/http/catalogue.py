"""``GET /models``: everything that can be requested, for front ends: networks, scales, cost, formats and limits."""

from typing import Any

from fastapi import Request

from app.http.openapi import MENU, MODEL, only
from app.http.router import Router
from app.http.service import Service, service_of
from app.images.barcodes import AVAILABLE
from app.images.encoders import DEFAULT_QUALITY, FORMATS, OutputFormat
from app.images.formats import INPUTS
from app.inference.zoo import DEFAULT_STRENGTH, GeneratorSpec, ModelSpec, Spec
from app.upscale.auto import AUTO, KINDS, candidates
from app.upscale.parameters import DEFAULT_SCALE, MAX_SCALE

router = Router()
STRENGTH = {"min": 0, "max": 1, "default": DEFAULT_STRENGTH}


@router.get(
    "/models",
    summary="Networks, scales, formats and limits: everything that can be requested",
    responses={200: MENU, **only(401)},
)
async def get_models(request: Request) -> dict[str, Any]:
    return describe(service_of(request))


@router.get("/models/{name}", summary="One network", responses={200: MODEL, **only(401, 404)})
async def get_model(request: Request, name: str) -> dict[str, Any]:
    return describe_model(service_of(request), name)


def describe(service: Service) -> dict[str, Any]:
    """Everything a front end needs to offer the available choices."""
    settings = service.settings
    return {
        "default": service.upscaler.default,
        "auto": describe_auto(service),
        "models": [describe_model(service, name) for name in service.upscaler.zoo.names],
        "generators": [describe_generator(spec) for spec in service.upscaler.zoo.generators],
        "scale": {"min": 1, "max": MAX_SCALE, "default": DEFAULT_SCALE},
        "formats": [describe_format(kind) for kind in FORMATS.values()],
        "codes": AVAILABLE,  # whether decode=true is available
        "jobs": service.defer is not None,  # whether there is /jobs
        "input": {
            "formats": list(INPUTS),
            "max_bytes": settings.max_body_bytes,
            "max_pixels": settings.max_pixels,
            "max_side": settings.advanced.max_side,
        },
    }


def describe_auto(service: Service) -> dict[str, Any]:
    """What ``auto``, which is no network, may take."""
    takes = candidates(service.upscaler.zoo)
    return {
        "name": AUTO,
        "kind": "choice",
        "default": service.upscaler.default == AUTO,
        "summary": "Looks at the image and takes the network that fits it.",
        "takes": [{"kind": kind, "what": KINDS[kind], "model": name} for kind, name in takes.items()],
    }


def describe_model(service: Service, name: str) -> dict[str, Any]:
    """One network at all its scales, a generator or ``auto``; ``UnknownModelError`` lists the known names."""
    if name == AUTO:
        return describe_auto(service)
    for generator in service.upscaler.zoo.generators:
        if generator.name == name:
            return describe_generator(generator)
    specs = [service.upscaler.zoo.find(name, scale) for scale in service.upscaler.zoo.scales(name)]
    return {
        "name": name,
        "default": name == service.upscaler.zoo.default,
        "baseline": all(spec.parameters == 0 for spec in specs),  # interpolation, for comparison
        "summary": specs[0].summary,
        "licence": specs[0].licence,
        "max_scale": min(MAX_SCALE, specs[-1].scale ** 2),  # two networks in sequence
        "strength": STRENGTH if all(spec.strength for spec in specs) else None,
        "scales": [describe_scale(service, spec) for spec in specs],
    }


def describe_scale(service: Service, spec: ModelSpec) -> dict[str, Any]:
    network = service.upscaler.networks[spec.title]
    return {
        "scale": spec.scale,
        "architecture": spec.architecture,
        "strength": spec.strength,
        "licence": spec.licence,
        "source": spec.training.get("source", spec.recipe),
        "provider": network.provider,
        "precision": network.precision,
        "max_depth": network.max_depth,
        "parameters": spec.parameters,
        "macs_per_pixel": spec.macs,
        "seconds_per_megapixel": round(service.upscaler.scheduler.estimate(spec, 1_000_000), 3),
        "context": spec.context,
        "metrics": network.file.metrics,
        "files": describe_files(spec),
    }


def describe_generator(spec: GeneratorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "kind": "generator",
        "summary": spec.summary,
        "licence": spec.licence,
        "architecture": spec.architecture,
        "latent": spec.latent,
        "size": [spec.height, spec.width, spec.channels],
        "parameters": spec.parameters,
        "macs_per_picture": spec.macs,
        "files": describe_files(spec),
    }


def describe_files(spec: Spec) -> dict[str, Any]:
    return {
        precision: {"sha256": file.sha256, "bytes": file.bytes, "metrics": file.metrics}
        for precision, file in spec.files.items()
    }


def describe_format(kind: OutputFormat) -> dict[str, Any]:
    return {
        "name": kind.name,
        "media_type": kind.media_type,
        "extension": kind.extension,
        "max_depth": kind.bits,
        "alpha": kind.alpha,
        "streamed": kind.streamed,
        "quality": {"min": 1, "max": 100, "default": DEFAULT_QUALITY} if kind.quality else None,
        "subsampling": kind.subsampling,
        "lossless": kind.lossless,
        "max_side": kind.max_side,
        "max_pixels": kind.max_pixels,
        "max_bytes": kind.max_bytes,
    }
