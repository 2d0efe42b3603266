"""The routes under ``/study``. Whatever touches files or the database runs in a thread."""

import secrets
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Path, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import FileResponse, JSONResponse

from app.http.limits import lease_of
from app.http.openapi import only
from app.http.pages import page
from app.http.router import Router
from app.http.service import service_of
from app.study.comparison import Study
from app.threads import run_in_thread

Participant = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="As given by `POST /study/participants`.")]


class Score(BaseModel):
    """The body of a rating."""

    score: int = Field(ge=1, le=5, strict=True, description="1 bad, 2 poor, 3 fair, 4 good, 5 excellent.")


async def study_of(request: Request) -> Study:
    study: Study = request.app.state.study
    return study


ThisStudy = Annotated[Study, Depends(study_of)]
router = Router(prefix="/study", tags=["study"], responses=only(401, 404, 409, 422, 429, 503, 504))


@router.get("", include_in_schema=False)
async def get_page() -> FileResponse:
    return page("study.html")


@router.post("/participants", status_code=201, summary="Begin the study")
async def post_participant(study: ThisStudy) -> dict[str, Any]:
    """Nothing is kept until the first rating."""
    return await run_in_thread(study.session, secrets.token_hex(16))


@router.get("/participants/{participant}", summary="Continue the study")
async def get_participant(study: ThisStudy, participant: Participant) -> dict[str, Any]:
    return await run_in_thread(study.session, participant)


@router.get("/participants/{participant}/{trial}.png", summary="The image to rate", response_class=Response)
async def get_picture(request: Request, study: ThisStudy, participant: Participant, trial: str) -> Response:
    """Computed when it is first asked for: then it counts as a request that brings an image."""
    key = await run_in_thread(study.find, participant, trial)
    png = study.stimuli.made(key)
    if png is None:
        lease_of(request.scope).take(1)
        png = await study.stimuli.make(key, service_of(request).decoders)
    return Response(png, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


@router.put("/participants/{participant}/{trial}", status_code=204, summary="Rate it, or change the rating")
async def put_score(study: ThisStudy, participant: Participant, trial: str, body: Score) -> None:
    await run_in_thread(partial(study.rate, participant, trial, body.score))


@router.get("/results", summary="Mean opinion scores", response_model=None)
async def get_results(study: ThisStudy, request: Request) -> Response:
    """JSON; a page where `Accept` asks for HTML."""
    if "text/html" in request.headers.get("accept", ""):
        answer: Response = page("results.html")
    else:
        answer = JSONResponse(await run_in_thread(study.results), headers={"Cache-Control": "no-store"})
    answer.headers["Vary"] = "Accept"
    return answer
