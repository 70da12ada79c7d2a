"""What the admin portal shows of each thing, who may change it, and what can be done to people and hosts.

Roles come from the person (Person.has_perm): everybody who is let in looks at everything; administrators change it;
the helpdesk has three actions, and these only for people without a role, or it could make itself an administrator.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.exceptions import PermissionDenied
from django.db.models import DateTimeField
from django.shortcuts import redirect, resolve_url
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from pam_totp.directory import audit, config, figures, hosts, letters, models, people, programs
from pam_totp.directory.models import Person
from pam_totp.directory.portal import factors, visit
from pam_totp.directory.portal.forms import AccessibleForm, CodeForm
from pam_totp.directory.portal.pages import address
from pam_totp.errors import PamTotpError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.models import Model, QuerySet
    from django.http import HttpRequest, HttpResponse

    Deed = Callable[[Any, str, dict[str, Any]], str | list[tuple[str, str]] | None]

MOST_AT_ONCE = 500
Role = Person.Role


class Plain(admin.options.BaseModelAdmin):  # type: ignore[type-arg]  # Debian has no types of Django
    """Fields as browsers have them: with labels, large enough, and without windows of their own."""

    formfield_overrides: ClassVar[dict[Any, Any]] = {
        DateTimeField: {
            "form_class": forms.DateTimeField,
            "widget": forms.DateTimeInput({"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        }
    }

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """The field, without links to add and to change what it chooses from."""
        field = super().formfield_for_dbfield(db_field, request, **options)
        if field is not None and isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        return field


class Looked(Plain, admin.ModelAdmin):  # type: ignore[type-arg]  # as above
    """Shown to every role, changed by administrators alone. Each change is in the audit trail."""

    list_per_page = 100
    show_full_result_count = False

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The page of one thing: for who may change it, after a code that was typed lately."""
        if self._changes(request, object_id) and not visit.confirmed(request):
            return to_confirm(request)
        response: HttpResponse = super().changeform_view(request, object_id, form_url, extra_context)
        return response

    @admin.display(
        description=mark_safe(  # it is written here
            '<input type="checkbox" id="action-toggle" aria-label="Choose all on this page">'
            '<span class="visually-hidden">Choice</span>'
        )
    )
    def action_checkbox(self, obj: Model) -> SafeString:
        """The box that chooses one for an action, with a name."""
        return format_html(
            '<input type="checkbox" name="{}" value="{}" class="action-select" aria-label="Choose {}">',
            ACTION_CHECKBOX_NAME,
            obj.pk,
            obj,
        )

    def lookup_allowed(self, lookup: str, value: Any, *more: Any) -> bool:
        """Lists are filtered by what they show: else they would tell, letter by letter, what nobody is shown."""
        filters = {each[0] if isinstance(each, tuple) else each for each in self.list_filter}
        shown = {*self.list_display, *filters, self.date_hierarchy}
        name = lookup.partition("__")[0]
        # What is no field is a filter of ours, or nothing.
        fields = {each.name for each in self.opts.get_fields()}
        return (name in shown or name not in fields) and bool(super().lookup_allowed(lookup, value, *more))

    def _changes(self, request: HttpRequest, object_id: str | None) -> bool:
        return self.has_add_permission(request) if object_id is None else self.has_change_permission(request)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page that deletes one thing, always after a code."""
        if self.has_delete_permission(request) and not visit.confirmed(request):
            return to_confirm(request)
        response: HttpResponse = super().delete_view(request, object_id, extra_context)
        return response

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What goes with it: invitations and the like, which nobody deletes by themselves, are no reason to refuse."""
        deleted, counts, _, protected = super().get_deleted_objects(objs, request)
        return deleted, counts, set(), protected

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Without Django's own deletion of many: it would pass by what is to be done and told of each."""
        actions: dict[str, Any] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        """Save it, and say so in the audit trail: which fields, never what is in them."""
        super().save_model(request, obj, form, change)
        kind = obj._meta.model_name  # noqa: SLF001  # public by Django's documentation
        audit.note(
            visit.person(request).name, f"{kind}-{'changed' if change else 'added'}", str(obj), fields=form.changed_data
        )

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        """Delete it, and say so in the audit trail."""
        kind, name = obj._meta.model_name, str(obj)  # noqa: SLF001  # as above
        super().delete_model(request, obj)
        audit.note(visit.person(request).name, f"{kind}-deleted", name)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:  # type: ignore[override]  # no entry
        """Django's own log of changes is not kept: the audit trail is, and nobody can edit it."""

    log_change = log_addition  # type: ignore[assignment]  # as above

    def log_deletion(self, request: HttpRequest, obj: Any, object_repr: str) -> None:
        """As above."""


class ReadOnly(Looked):
    """What the directory itself writes, and nobody here."""

    actions = None

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody adds one."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody changes one."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody deletes one."""
        return False


class ActionForm(AccessibleForm):
    """What an action wants to know, and a code where none was typed lately."""

    code = CodeForm.base_fields["code"]

    def __init__(self, *args: Any, confirmed: bool, **names: Any) -> None:
        super().__init__(*args, **names)
        if confirmed:
            del self.fields["code"]


class DaysForm(ActionForm):
    """For how long."""

    days = forms.IntegerField(label="Days", min_value=1, max_value=365, initial=7)
    field_order = ("days", "mail", "code")


class InviteForm(DaysForm):
    """For how long, and whether by mail where mail is sent at all."""

    mail = forms.BooleanField(
        label="Send it by mail",
        required=False,
        initial=True,
        help_text="Within a minute, to those who have an address. The links of the others are shown here.",
    )

    def __init__(self, *args: Any, **names: Any) -> None:
        super().__init__(*args, **names)
        if not letters.enabled():
            del self.fields["mail"]


class RevokeForm(ActionForm):
    """Whether those whose secrets a host had enrol anew at once."""

    reset = forms.BooleanField(
        label="Reset and invite these people",
        required=False,
        initial=True,
        help_text="Their authenticators and recovery codes are removed, on every host, and they are invited.",
    )
    field_order = ("reset", "code")


def carry_out(
    model_admin: admin.ModelAdmin,  # type: ignore[type-arg]  # as above
    request: HttpRequest,
    queryset: QuerySet[Any],
    deed: Deed,
    *,
    title: str,
    text: str,
    done: str,
    form_class: type[ActionForm] = ActionForm,
    once: bool = False,
    about: Callable[[Any], str] = str,
) -> HttpResponse | None:
    """Ask whether that is meant, with a code; then do it to each, and show what is to be handed over.

    ``about`` is what is said of each thing before. A deed returns what is shown once: a text, or names and texts.
    """
    things = list(queryset[: MOST_AT_ONCE + 1])
    back = request.get_full_path()
    if len(things) > MOST_AT_ONCE:
        messages.error(request, f"At most {MOST_AT_ONCE} at once: use the command pam-totp-directory for more.")
        return redirect(back)
    confirmed = visit.confirmed(request)
    form = form_class(request.POST if "sure" in request.POST else None, confirmed=confirmed)
    context = {**model_admin.admin_site.each_context(request), "title": title, "back": back, "text": text}
    context["things"] = str(model_admin.opts.verbose_name_plural).capitalize()
    if not (form.is_valid() and (confirmed or _right(request, form))):
        action = request.POST.get("action", "")
        context |= {"queryset": [(each.pk, about(each)) for each in things], "form": form, "action": action}
        context["checkbox_name"] = ACTION_CHECKBOX_NAME
        return TemplateResponse(request, "admin/portal/action.html", context)
    handed_over: list[tuple[str, str]] = []
    names = []
    for each in things:
        try:
            told = deed(each, visit.person(request).name, form.cleaned_data)
        except PamTotpError as error:
            messages.error(request, f"Not {each}: {error}")
            continue
        names.append(str(each))
        if told:
            handed_over += [(str(each), told)] if isinstance(told, str) else told
    if names:
        messages.success(request, f"{done}: {', '.join(names)}")
    if not handed_over:
        return redirect(back)
    return TemplateResponse(
        request, "admin/portal/shown_once.html", {**context, "secrets": handed_over, "text": done, "once": once}
    )


def _right(request: HttpRequest, form: ActionForm) -> bool:
    verdict = factors.check(visit.person(request), form.cleaned_data["code"], address(request))
    if verdict.accepted:
        visit.confirm(request)
        return True
    form.add_error("code", verdict.message)
    return False


def to_confirm(request: HttpRequest) -> HttpResponse:
    """Ask for a code, and come back."""
    return redirect(f"{resolve_url('portal:confirm')}?{urlencode({'next': request.path}, safe='/')}")


# People


class StateFilter(admin.SimpleListFilter):
    """How far people are with their enrolment."""

    title = "enrolment"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[Any, str]]:
        """The states."""
        return list(Person.State.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Person]) -> QuerySet[Person] | None:
        """The people in the state that was chosen."""
        if self.value() is None:
            return None
        return queryset.filter(pk__in=figures.people(str(self.value()), timezone.now()).values("pk"))


class PersonForm(forms.ModelForm):  # type: ignore[type-arg]  # as above
    """A person, with the groups, of which there are fewer than people."""

    memberships = forms.ModelMultipleChoiceField(
        models.Group.objects.all(), required=False, label="Groups", widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args: Any, **names: Any) -> None:
        super().__init__(*args, **names)
        if self.instance.pk and "memberships" in self.fields:
            self.fields["memberships"].initial = self.instance.memberships.all()


# What is done to each of those that were chosen; a text is shown once, to be handed over.


def _invite(person: Person, actor: str, fields: dict[str, Any]) -> str | None:
    if fields.get("mail") and person.email:
        people.invite_by_mail(actor, person, fields["days"])
        return None
    secret = people.invite(actor, person, fields["days"])
    return settings.CONFIG.url + resolve_url("portal:invitation", secret)


def _reset(person: Person, actor: str, _: dict[str, Any]) -> None:
    people.remove(actor, person)


def _unlock(person: Person, actor: str, _: dict[str, Any]) -> None:
    people.lock(actor, person, locked=False)


def _lock(person: Person, actor: str, _: dict[str, Any]) -> None:
    people.lock(actor, person, locked=True)


def _exempt(person: Person, actor: str, fields: dict[str, Any]) -> None:
    people.set_fields(actor, person, exempt_until=timezone.now() + timedelta(days=fields["days"]))


def _end_exemption(person: Person, actor: str, _: dict[str, Any]) -> None:
    people.set_fields(actor, person, exempt_until=None)


@admin.register(Person)
class PersonAdmin(Looked):
    """People, and what is done for them."""

    list_display = ("name", "display", "enrolment", "refused", "role", "last_login")
    list_filter = (StateFilter, "locked", "role", "is_active")
    search_fields = ("name", "display", "email")
    # Set by actions, which say in the audit trail what was done.
    shown = ("enrolment", "authenticators", "groups", "locked", "exempt_until", "source", "uid_number")
    readonly = (*shown, "last_login", "created")
    form = PersonForm
    readonly_fields = readonly
    actions = ("invite", "reset", "unlock", "lock", "exempt", "end_exemption")

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """What can be set, and what is only shown: whoever changes nothing is shown everything."""
        changes = self.has_change_permission(request) if obj else self.has_add_permission(request)
        shown = [name for name in self.readonly if not (changes and name == "groups")]
        settable = ["name", "display", "email", "role", "is_active", "must_enroll", "deadline"]
        return [*settable, *(["memberships"] if changes else []), *(shown if obj else [])]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save it; mail about that goes to the former address, where there is another one."""
        super().save_model(request, obj, form, change)
        letters.moved(obj, visit.person(request).name, str(form.initial.get("email") or ""))

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """The groups, which are the other side's field."""
        super().save_related(request, form, formsets, change)
        form.instance.memberships.set(form.cleaned_data["memberships"])

    @admin.display(description="enrolment")
    def enrolment(self, person: Person) -> str:
        """How far the enrolment is."""
        return str(person.state_at(timezone.now()).label)

    @admin.display(description="locked", ordering="locked")
    def refused(self, person: Person) -> str:
        """A word where the person is locked: a column of crosses would look like something wrong."""
        return "locked" if person.locked else ""

    @admin.display(description="authenticators")
    def authenticators(self, person: Person) -> str:
        """What the person types codes of. Secrets are nobody's business."""
        return ", ".join(f"{each.label} ({each.get_state_display()})" for each in person.authenticators.all()) or "none"

    @admin.display(description="groups")
    def groups(self, person: Person) -> str:
        """The groups that the person is in."""
        return ", ".join(group.name for group in person.memberships.all()) or "none"

    # Which roles an action is for; Django asks has_NAME_permission of an action's permissions.

    def has_help_permission(self, request: HttpRequest) -> bool:
        """What the helpdesk may do."""
        return request.user.is_staff and request.user.role in (Role.HELPDESK, Role.ADMINISTRATOR)

    def has_power_permission(self, request: HttpRequest) -> bool:
        """What administrators alone may do."""
        return bool(request.user.is_superuser)

    def _do(self, request: HttpRequest, queryset: QuerySet[Person], deed: Deed, **words: Any) -> HttpResponse | None:
        if not request.user.is_superuser and queryset.exclude(role=Role.USER).exists():
            # Whoever resets and invites an administrator is one.
            raise PermissionDenied
        return carry_out(self, request, queryset, deed, **words)

    @admin.action(description="Invite (a link to enrol with)", permissions=["help"])
    def invite(self, request: HttpRequest, queryset: QuerySet[Person]) -> HttpResponse | None:
        """A one-time link for each."""
        text = "Each gets a link to set up verification codes with, once. Earlier invitations are void then."
        words = {"title": "Invite", "text": text, "done": "Invited", "form_class": InviteForm, "once": True}
        return self._do(request, queryset, _invite, **words)

    @admin.action(description="Reset (remove all authenticators)", permissions=["help"])
    def reset(self, request: HttpRequest, queryset: QuerySet[Person]) -> HttpResponse | None:
        """No authenticators and no recovery codes."""
        text = (
            "All authenticators and recovery codes are removed, on every host. "
            "Until they have enrolled anew, the policy for people who are not enrolled holds."
        )
        return self._do(request, queryset, _reset, title="Reset", text=text, done="Reset")

    @admin.action(description="Unlock (forget wrong codes)", permissions=["help"])
    def unlock(self, request: HttpRequest, queryset: QuerySet[Person]) -> HttpResponse | None:
        """Not locked any more, anywhere."""
        text = "Locks and waits after wrong codes end, here and on every host."
        return self._do(request, queryset, _unlock, title="Unlock", text=text, done="Unlocked")

    @admin.action(description="Lock (refuse everywhere)", permissions=["power"])
    def lock(self, request: HttpRequest, queryset: QuerySet[Person]) -> HttpResponse | None:
        """Refused everywhere."""
        text = "They are refused on every host and in the portal, until they are unlocked."
        return self._do(request, queryset, _lock, title="Lock", text=text, done="Locked")

    @admin.action(description="Exempt for some days (not asked for codes)", permissions=["power"])
    def exempt(self, request: HttpRequest, queryset: QuerySet[Person]) -> HttpResponse | None:
        """Not asked until a date."""
        text = "They are not asked for codes on any host until then."
        words = {"title": "Exempt", "text": text, "done": "Exempt", "form_class": DaysForm}
        return self._do(request, queryset, _exempt, **words)

    @admin.action(description="End the exemption", permissions=["power"])
    def end_exemption(self, request: HttpRequest, queryset: QuerySet[Person]) -> HttpResponse | None:
        """Asked again from now on."""
        text = "They are asked for codes again from now on."
        return self._do(request, queryset, _end_exemption, title="End the exemption", text=text, done="Ended")


# Groups, hosts, and what holds on them


class AccessInline(Plain, admin.StackedInline):  # type: ignore[type-arg]  # as above
    """Which groups may use which hosts."""

    model = models.Access
    extra = 0


class PolicyInline(Plain, admin.StackedInline):  # type: ignore[type-arg]  # as above
    """What holds on the hosts of a host group."""

    model = models.Policy


@admin.register(models.Group)
class GroupAdmin(Looked):
    """Groups of people, and the hosts that they may use."""

    list_display = ("name",)
    search_fields = ("name",)
    inlines = (AccessInline,)


@admin.register(models.HostGroup)
class HostGroupAdmin(Looked):
    """Groups of hosts: who may use them, and their policy."""

    list_display = ("name",)
    search_fields = ("name",)
    inlines = (PolicyInline, AccessInline)


def _revoke(host: models.Host, actor: str, fields: dict[str, Any]) -> str | list[tuple[str, str]]:
    concerned = hosts.revoke(actor, host)
    if not (concerned and fields["reset"]):
        return ", ".join(map(str, concerned)) or "nobody"
    # What one of them is shown must not depend on the next one: each is done, or not, by itself.
    return [(f"{person}, of {host}", _anew(person, actor)) for person in concerned]


def _anew(person: Person, actor: str) -> str:
    try:
        link = people.enrol_anew(actor, person, mail=True)
    except PamTotpError as error:
        return f"not reset: {error}"
    return f"the invitation is sent to {person.email}" if link is None else link


def _concerned(host: models.Host) -> str:
    return f"{host}: it has the secrets of {', '.join(map(str, hosts.known_to(host))) or 'nobody'}"


@admin.register(models.Host)
class HostAdmin(Looked):
    """Hosts. They join by themselves, with a join token."""

    list_display = ("name", "group", "last_seen", "address", "expires", "cloned", "revoked")
    list_filter = ("group", ("revoked", admin.EmptyFieldListFilter), ("cloned", admin.EmptyFieldListFilter))
    search_fields = ("name", "ident")
    readonly = ("ident", "joined", "last_seen", "address", "epoch", "sequence", "expires", "cloned", "revoked")
    fields = ("name", "group", *readonly)
    readonly_fields = readonly
    actions = ("revoke",)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A host joins, with a token."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A host is revoked first: then nobody speaks for it any more."""
        gone = not isinstance(obj, models.Host) or obj.revoked is not None
        return gone and bool(super().has_delete_permission(request, obj))

    def has_power_permission(self, request: HttpRequest) -> bool:
        """What administrators alone may do."""
        return bool(request.user.is_superuser)

    @admin.action(description="Revoke (gets nothing any more)", permissions=["power"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[models.Host]) -> HttpResponse | None:
        """The end of a host, and who has to enrol anew."""
        text = (
            "They get nothing from the directory any more. Their root knows the secrets of the people who are named "
            "here: have these enrol anew."
        )
        return carry_out(
            self,
            request,
            queryset,
            _revoke,
            title="Revoke",
            text=text,
            done="Revoked",
            form_class=RevokeForm,
            once=True,
            about=_concerned,
        )


# Tokens


@admin.register(models.JoinToken)
class JoinTokenAdmin(ReadOnly):
    """What lets hosts join. Root makes one, with the command: whoever took over this portal must not add hosts."""

    list_display = ("__str__", "group", "expires", "used", "created_by")


class ApiTokenForm(forms.ModelForm):  # type: ignore[type-arg]  # as above
    """What a new token is for, and for how long."""

    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in config.SCOPES], widget=forms.CheckboxSelectMultiple
    )
    days = forms.IntegerField(label="Days", min_value=1, max_value=3650, initial=365)

    class Meta:
        """What is set here."""

        model = models.ApiToken
        fields = ("name", "scopes")


@admin.register(models.ApiToken)
class ApiTokenAdmin(Looked):
    """What lets programs use the API: made here, shown once, and only ever deleted after that."""

    list_display = ("name", "scopes", "expires", "last_used", "created_by")

    def get_form(self, request: HttpRequest, obj: Model | None = None, change: bool = False, **options: Any) -> Any:
        """The form of a new one; of one that there is, nothing is set."""
        return super().get_form(request, obj, change, **options if obj else {**options, "form": ApiTokenForm})

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """What is set, or shown."""
        return ["name", "scopes", "expires", "last_used", "created_by"] if obj else ["name", "scopes", "days"]

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """What is not kept cannot be changed."""
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Keep the hash, and hold the token for the answer."""
        fields = form.cleaned_data
        actor = visit.person(request).name
        request.shown_once = programs.new_token(  # type: ignore[attr-defined]  # for response_add
            actor, fields["name"], fields["scopes"], fields["days"]
        )
        # Django goes on with what was made.
        obj.pk = models.ApiToken.objects.get(name=fields["name"]).pk

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        """End it."""
        programs.revoke_token(visit.person(request).name, str(obj))

    def response_add(self, request: HttpRequest, obj: Model, post_url_continue: str | None = None) -> HttpResponse:
        """Show the token, in this answer and never again."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"New {self.opts.verbose_name}",
            "things": str(self.opts.verbose_name_plural).capitalize(),
            "back": resolve_url(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"),
            "secrets": [(str(obj), request.shown_once)],  # type: ignore[attr-defined]  # as above
            "once": True,
            "text": "Give it to whoever needs it by a way that nobody else reads.",
        }
        return TemplateResponse(request, "admin/portal/shown_once.html", context)


# What happened


@admin.register(models.Invitation)
class InvitationAdmin(ReadOnly):
    """Who was invited."""

    list_display = ("person", "created", "expires", "used", "created_by")
    search_fields = ("person__name",)


class WordFilter(admin.AllValuesFieldListFilter):
    """The words that there are. Having none is a choice with a name as well: a link needs one."""

    def choices(self, changelist: Any) -> Iterator[Any]:
        """What can be chosen."""
        for choice in super().choices(changelist):
            yield {**choice, "display": choice["display"] or "none"}


@admin.register(models.Event)
class EventAdmin(ReadOnly):
    """What hosts have told of logins."""

    list_display = ("time", "kind", "name", "host", "service", "reason")
    list_filter = ("kind", ("reason", WordFilter), ("service", WordFilter))
    search_fields = ("name", "host__name")
    list_select_related = ("host",)
    date_hierarchy = "time"


@admin.register(models.Audit)
class AuditAdmin(ReadOnly):
    """Who did what."""

    list_display = ("time", "actor", "action", "target", "detail")
    search_fields = ("actor", "action", "target")
    ordering = ("-id",)
