"""/admin/reports."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.enums import MediaType
from msgspec import Struct, json

from app.access.actor import Actor
from app.access.permissions import Permission, Requires
from app.admin.http import answer, transaction
from app.admin.pipeline_stages.queries import list_origins
from app.admin.report_runs.schemas import ReportName
from app.admin.reports import service
from app.admin.reports.cache import KeptReport, ReportCache
from app.admin.reports.forecast import forecast
from app.admin.reports.last import last_run, takes_too_long
from app.admin.reports.schemas import (
    DealReportQuery,
    DealSummary,
    Forecast,
    ForecastQuery,
    Funnel,
    Overview,
    PeriodQuery,
    Team,
)
from app.records.transaction import Transaction
from app.web import strict_json
from app.web.errors import AppError
from app.web.input import CrmRequest
from app.web.routing import Routes

Q = TypeVar("Q", bound=Struct)
T = TypeVar("T")


@get("/overview", guards=[Requires(Permission.READ)])
async def get_overview(request: CrmRequest) -> Response[Overview]:
    """Everything on one page. It may be some seconds old, which `Age` says; `Cache-Control: no-cache` asks anew."""
    kept = await current_overview(request)
    return overview_response(kept.report, kept.age)


async def current_overview(request: CrmRequest) -> KeptReport:
    """The kept overview of whoever asks, or a new one."""
    actor: Actor = request.user
    cache: ReportCache = request.app.state.report_cache
    limited = request.app.state.settings.agent_read_scope == "own" and not actor.can(Permission.MANAGE_ALL)
    person = actor.user_id if limited else None
    fresh = "no-cache" in request.headers.get("cache-control", "").lower()
    kept, generation = await cache.look(actor.tenant_id, person, fresh=fresh)
    if kept is not None:
        return kept
    began = time.monotonic()
    try:
        async with transaction(request, standby=True) as tx:
            kept = KeptReport(await service.overview(tx), await list_origins(tx), began, generation)
    except AppError as error:
        if not takes_too_long(request, error):
            raise
        last = await last_run(request, ReportName.OVERVIEW)
        async with transaction(request) as tx:
            origins = await list_origins(tx)
        return KeptReport(json.decode(last.document, type=Overview), origins, time.monotonic() - last.age)
    await cache.keep(actor.tenant_id, person, kept)
    return kept


def overview_response(report: Struct, age: int) -> Response[Any]:
    """A report that is so many seconds old."""
    return Response(strict_json.encode(report), media_type=MediaType.JSON, headers={"Age": str(age)})


@get("/deals/summary", guards=[Requires(Permission.READ)])
async def get_deal_summary(request: CrmRequest, filters: NamedDependency[DealReportQuery]) -> Response[DealSummary]:
    """Deals by status and currency, of those created in the period."""
    return await _in_time(request, ReportName.SUMMARY, filters, service.summary)


@get("/deals/funnel", guards=[Requires(Permission.READ)])
async def get_funnel(request: CrmRequest, filters: NamedDependency[DealReportQuery]) -> Response[Funnel]:
    """How the deals created in the period came through the stages."""
    return await _in_time(request, ReportName.FUNNEL, filters, service.funnel)


@get("/deals/forecast", guards=[Requires(Permission.READ)])
async def get_forecast(request: CrmRequest, filters: NamedDependency[ForecastQuery]) -> Response[Forecast]:
    """What closed, and what is expected to, by months or quarters: open deals by expected_close_date."""
    return await _in_time(request, ReportName.FORECAST, filters, forecast)


@get("/team", guards=[Requires(Permission.READ)])
async def get_team(request: CrmRequest, filters: NamedDependency[PeriodQuery]) -> Response[Team]:
    """Of each person: the open deals, and the closed deals and completed activities of the period."""
    return await _in_time(request, ReportName.TEAM, filters, service.team)


async def _in_time(
    request: CrmRequest, report: ReportName, query: Q, make: Callable[[Transaction, Q], Awaitable[T]]
) -> Response[T]:
    """The report of now, or its last run, if that takes too long."""
    try:
        async with transaction(request, standby=True) as tx:
            return answer(tx, await make(tx, query))
    except AppError as error:
        if not takes_too_long(request, error):
            raise
    last = await last_run(request, report, query)
    content: Any = last.document
    return Response(content, media_type=MediaType.JSON, headers={"Age": str(last.age)})


router = Routes(
    "/reports", route_handlers=[get_overview, get_deal_summary, get_funnel, get_forecast, get_team], tags=["Reports"]
)
