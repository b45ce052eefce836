"""
Show schedules and their history in Django's admin, beside the pages of django-celery-beat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django_celery_beat.admin import PeriodicTaskAdmin
from django_celery_beat.models import PeriodicTask

from celery_platform.beat import history
from celery_platform.beat.reconcile import drift
from celery_platform.beat.rows import entry_of
from celery_platform.beat.site.models import Firing, Plan
from celery_platform.errors import PlatformError, ScheduleError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from django.db.models import QuerySet
    from django.http import HttpRequest

__all__ = ["FiringAdmin", "PlanInline", "ScheduleAdmin"]

admin.site.site_header = admin.site.site_title = "Celery Platform: schedules"
admin.site.index_title = "Schedules and what became of them"


class PlanInline(admin.StackedInline):
    """The rules of an entry, and its pause."""

    model = Plan
    can_delete = False
    max_num = 1
    verbose_name_plural = "Rules and progress"
    fields = ("rules", "next_at", "paused_at", "paused_until", "paused_reason", "failures", "error")
    readonly_fields = ("next_at", "failures", "error")


class ScheduleAdmin(PeriodicTaskAdmin):
    """django-celery-beat's page with the next time, pauses, drift and history of each entry."""

    inlines: ClassVar = [PlanInline]
    list_display = (
        *("name", "enabled", "schedule_in_words", "next_time"),
        *("last_outcome", "overlap", "state", "drift_in_words"),
    )
    list_filter = ("enabled", "plan__managed")
    actions: ClassVar = ["enable_tasks", "disable_tasks", "run_now", "pause", "resume"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """
        Fetch what the columns need at once.
        """
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.select_related("plan", "interval", "crontab", "solar", "clocked")

    @admin.display(description="schedule")
    def schedule_in_words(self, row: Any) -> str:
        """
        Say when the entry is due.
        """
        try:
            return entry_of(row).recurrence.described()
        except ScheduleError as error:
            return f"unusable: {error}"

    @admin.display(description="next (UTC)", ordering="plan__next_at")
    def next_time(self, row: Any) -> str:
        """
        Show the next nominal time.
        """
        plan = getattr(row, "plan", None)
        return _to_the_second(plan.next_at) if plan and row.enabled else ""

    @admin.display(description="last")
    def last_outcome(self, row: Any) -> str:
        """
        Show the newest firing and its state.
        """
        firing = Firing.objects.filter(entry=row.name).order_by("-nominal").first()
        return f"{firing.nominal:%Y-%m-%d %H:%M:%S} {firing.state}" if firing else ""

    @admin.display(description="overlap")
    def overlap(self, row: Any) -> str:
        """
        Show the overlap policy.
        """
        try:
            return entry_of(row).rules.overlap
        except ScheduleError:
            return ""

    @admin.display(description="state")
    def state(self, row: Any) -> str:
        """
        Tell whether the entry is paused or broken, and why.
        """
        plan = getattr(row, "plan", None)
        if plan is None:
            return "new"
        if plan.error:
            return f"broken: {plan.error}"
        if plan.removed:
            return "left the code"
        return f"paused: {plan.paused_reason}" if history.is_paused(plan) else "active"

    @admin.display(description="drift from code")
    def drift_in_words(self, row: Any) -> str:
        """
        Name the fields that an operator has changed against the code.
        """
        return ", ".join(f"{name} (code: {said})" for name, (said, _) in drift(row).items())

    @admin.action(description="Run selected entries now")
    def run_now(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        """
        Ask for one run of each entry.
        """
        for row in rows:
            try:
                asked = history.run_now(row.name)
            except PlatformError as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.message_user(request, f"{row.name} was asked for: call {asked['call_id']}.")

    @admin.action(description="Pause selected entries")
    def pause(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        """
        Pause each entry until it is resumed.
        """
        for row in rows:
            history.pause(row.name, f"by {request.user} in the admin")

    @admin.action(description="Resume selected entries")
    def resume(self, _: HttpRequest, rows: QuerySet[Any]) -> None:
        """
        Let each entry go on.
        """
        for row in rows:
            history.resume(row.name)


class FiringAdmin(admin.ModelAdmin):
    """The history: what was fired, when, and how it ended; nobody edits it."""

    list_display = ("entry", "nominal_time", "sent", "lag_in_seconds", "state", "ended", "kind", "note", "call_id")
    list_filter = ("state", "kind")
    search_fields = ("entry", "call_id")
    date_hierarchy = "nominal"
    ordering = ("-nominal", "-id")
    show_full_result_count = False

    @admin.display(description="nominal (UTC)", ordering="nominal")
    def nominal_time(self, row: Any) -> str:
        """
        Show the nominal time to the second.
        """
        return _to_the_second(row.nominal)

    @admin.display(description="sent (UTC)", ordering="sent_at")
    def sent(self, row: Any) -> str:
        """
        Show when the broker had the firing.
        """
        return _to_the_second(row.sent_at)

    @admin.display(description="ended (UTC)", ordering="ended_at")
    def ended(self, row: Any) -> str:
        """
        Show when the firing had its outcome.
        """
        return _to_the_second(row.ended_at)

    @admin.display(description="lag (s)")
    def lag_in_seconds(self, row: Any) -> str:
        """
        Show how late the firing was sent.
        """
        return "" if row.lag is None else f"{row.lag:.3f}"

    def has_add_permission(self, _: HttpRequest) -> bool:
        """
        Refuse: firings are made by schedulers.
        """
        return False

    def has_change_permission(self, _: HttpRequest, __: Any = None) -> bool:
        """
        Refuse: what happened, happened.
        """
        return False

    def has_delete_permission(self, _: HttpRequest, __: Any = None) -> bool:
        """
        Refuse: old firings leave by themselves.
        """
        return False

    def get_readonly_fields(self, _: HttpRequest, __: Any = None) -> Sequence[str]:
        """
        Show every field.
        """
        return [field.name for field in Firing._meta.fields]  # noqa: SLF001 - Django's own word for it


def _to_the_second(moment: datetime | None) -> str:
    # The formats of Django's languages leave seconds out, which matter here.
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


admin.site.unregister(PeriodicTask)
admin.site.register(PeriodicTask, ScheduleAdmin)
admin.site.register(Firing, FiringAdmin)
