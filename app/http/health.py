"""Liveness, readiness and metrics."""

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from app.http.openapi import NOT_READY, only
from app.http.router import Router
from app.http.service import service_of
from app.telemetry.metrics import CONTENT_TYPE

router = Router()


@router.get("/healthz", summary="The process is alive")
async def get_healthz() -> dict[str, str]:
    return {"status": "alive"}


@router.get(
    "/readyz", summary="Every network has passed its self-test and new work is accepted", responses={503: NOT_READY}
)
async def get_readyz(request: Request) -> JSONResponse:
    service = service_of(request)
    status = "draining" if service.draining else "ready" if service.ready else "starting"
    networks = service.upscaler.networks
    providers = sorted(set().union(*(network.providers for network in networks.values())))
    body = {"status": status, "providers": providers, "models": sorted(networks)}
    return JSONResponse(body, 200 if status == "ready" else 503)


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response, responses=only(401))
async def get_metrics(request: Request) -> Response:
    return Response(service_of(request).metrics.text(), media_type=CONTENT_TYPE)
