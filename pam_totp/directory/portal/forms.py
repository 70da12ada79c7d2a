"""The portal's forms. None is made from a model: what a form does not name, nobody can set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth import password_validation

from pam_totp.directory.people import LONGEST_LABEL, check_label
from pam_totp.errors import UsageError

if TYPE_CHECKING:
    from pam_totp.directory.models import Person


# A key of the keeper's, in base32.
KEY = r"\A[A-Z2-7]{32}\Z"


class AccessibleForm(forms.Form):
    """A form whose fields name their hint and their error for screen readers, and put the cursor where it is needed."""

    def __init__(self, *args: Any, **names: Any) -> None:
        super().__init__(*args, **names)
        self.label_suffix = ""
        for name, field in self.fields.items():
            if field.help_text:
                field.widget.attrs["aria-describedby"] = f"id_{name}_hint"
            field.error_messages["required"] = f"{field.label}: type it here."

    def add_error(self, field: str | None, error: Any) -> None:
        """Show why something was not accepted, tied to the field that it is about."""
        super().add_error(field, error)
        if field in self.fields:
            attributes = self.fields[field].widget.attrs
            attributes["aria-invalid"] = "true"
            attributes["aria-describedby"] = f"{attributes.get('aria-describedby', '')} id_{field}_error".strip()


class LoginForm(AccessibleForm):
    """The first factor."""

    name = forms.CharField(
        label="User name",
        max_length=256,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
    )
    password = forms.CharField(
        label="Password",
        max_length=1024,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


class CodeForm(AccessibleForm):
    """The second factor."""

    code = forms.CharField(
        label="Verification code",
        max_length=32,
        help_text="Six digits from your authenticator app, or a recovery code.",
        widget=forms.TextInput(
            attrs={"class": "code", "autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )


class NewAuthenticatorForm(CodeForm):
    """The first code of a new authenticator, and its name."""

    label = forms.CharField(
        label="Name of this authenticator",
        max_length=LONGEST_LABEL,
        initial="phone",
        help_text="So that you know it among others.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    # What this page shows, to show it again after a mistyped code. What is checked is what the session holds.
    key = forms.RegexField(KEY, widget=forms.HiddenInput)
    field_order = ("label", "code", "key")

    def __init__(self, *args: Any, **names: Any) -> None:
        super().__init__(*args, **names)
        self.fields["code"].help_text = "Six digits."

    def clean_label(self) -> str:
        """The label. Raises ValidationError."""
        try:
            return check_label(self.cleaned_data["label"])
        except UsageError as error:
            raise forms.ValidationError(str(error).capitalize() + ".") from None


class PasswordForm(AccessibleForm):
    """A new password, twice."""

    password = forms.CharField(
        label="New password",
        max_length=1024,
        strip=False,
        help_text="At least 12 characters. Several words are easier to remember than a short jumble.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    again = forms.CharField(
        label="The same again",
        max_length=1024,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, *args: Any, person: Person, **names: Any) -> None:
        self._person = person
        super().__init__(*args, **names)

    def clean(self) -> dict[str, Any]:
        """The two are the same, and good enough. Adds errors to the fields."""
        cleaned = super().clean() or {}
        password, again = cleaned.get("password"), cleaned.get("again")
        if password and again and password != again:
            self.add_error("again", "The two are not the same.")
        elif password:
            try:
                password_validation.validate_password(password, self._person)
            except forms.ValidationError as error:
                self.add_error("password", error)
        return cleaned
