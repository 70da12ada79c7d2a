"""The first schema."""

from __future__ import annotations

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import pam_totp.directory.models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Person",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("password", models.CharField(max_length=128, verbose_name="password")),
                ("last_login", models.DateTimeField(blank=True, null=True, verbose_name="last login")),
                (
                    "name",
                    models.CharField(
                        max_length=64,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\\Z",
                                "1 to 64 letters, digits, dots, dashes, @ and _",
                            )
                        ],
                        verbose_name="login name",
                    ),
                ),
                ("display", models.CharField(blank=True, max_length=150, verbose_name="display name")),
                ("email", models.EmailField(blank=True, max_length=254, verbose_name="e-mail address")),
                (
                    "role",
                    models.CharField(
                        choices=[
                            ("user", "user"),
                            ("auditor", "auditor"),
                            ("helpdesk", "helpdesk"),
                            ("administrator", "administrator"),
                        ],
                        default="user",
                        max_length=16,
                    ),
                ),
                ("source", models.CharField(default="local", editable=False, max_length=16)),
                (
                    "is_active",
                    models.BooleanField(
                        default=True, help_text="who is not is on no host and in no portal", verbose_name="active"
                    ),
                ),
                ("locked", models.BooleanField(default=False, help_text="refused on every host and in the portal")),
                (
                    "exempt_until",
                    models.DateTimeField(blank=True, help_text="not asked for codes until then", null=True),
                ),
                (
                    "must_enroll",
                    models.BooleanField(default=False, help_text="refused or enrolled, whatever a host's policy is"),
                ),
                ("deadline", models.DateTimeField(blank=True, help_text="when the time to enrol ends", null=True)),
                (
                    "forget_before",
                    models.DateTimeField(blank=True, help_text="clients remembered earlier are asked again", null=True),
                ),
                ("ledger", models.BinaryField(default=bytes)),
                ("created", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "verbose_name_plural": "people",
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="ApiToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        max_length=64,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\\Z",
                                "1 to 64 letters, digits, dots, dashes, @ and _",
                            )
                        ],
                    ),
                ),
                ("token_hash", models.CharField(editable=False, max_length=64, unique=True)),
                ("scopes", models.JSONField(default=list)),
                ("created", models.DateTimeField(auto_now_add=True)),
                ("created_by", models.CharField(editable=False, max_length=64)),
                ("expires", models.DateTimeField(null=True)),
                ("last_used", models.DateTimeField(editable=False, null=True)),
            ],
            options={
                "verbose_name": "API token",
            },
        ),
        migrations.CreateModel(
            name="Audit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("time", models.DateTimeField()),
                ("actor", models.CharField(max_length=64)),
                ("action", models.CharField(max_length=64)),
                ("target", models.CharField(blank=True, max_length=256)),
                ("detail", models.JSONField(default=dict)),
                ("previous", models.CharField(max_length=64)),
                ("hash", models.CharField(max_length=64, unique=True)),
            ],
            options={
                "verbose_name_plural": "audit trail",
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Host",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "ident",
                    models.CharField(
                        default=pam_totp.directory.models.ident, editable=False, max_length=32, unique=True
                    ),
                ),
                ("name", models.CharField(max_length=253)),
                ("key", models.BinaryField(max_length=32)),
                ("token_hash", models.CharField(editable=False, max_length=64, unique=True)),
                ("joined", models.DateTimeField(auto_now_add=True)),
                ("last_seen", models.DateTimeField(editable=False, null=True)),
                ("address", models.GenericIPAddressField(editable=False, null=True)),
                ("revoked", models.DateTimeField(editable=False, null=True)),
                ("changes", models.PositiveBigIntegerField(default=1, editable=False)),
                ("done", models.PositiveBigIntegerField(default=0, editable=False)),
                ("epoch", models.PositiveIntegerField(default=0, editable=False)),
                ("sequence", models.PositiveBigIntegerField(default=0, editable=False)),
                ("expires", models.DateTimeField(editable=False, null=True)),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="HostGroup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        max_length=64,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\\Z",
                                "1 to 64 letters, digits, dots, dashes, @ and _",
                            )
                        ],
                    ),
                ),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="State",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("epoch", models.PositiveIntegerField(default=1)),
                ("sequence", models.PositiveBigIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="RecoveryCodes",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("salt", models.CharField(editable=False, max_length=32)),
                ("hashes", models.JSONField(default=list, editable=False)),
                ("shown", models.BooleanField(default=False, editable=False)),
                (
                    "person",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="recovery",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "recovery codes",
            },
        ),
        migrations.CreateModel(
            name="Published",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.CharField(max_length=64)),
                ("file", models.CharField(max_length=64)),
                (
                    "host",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="published", to="directory.host"
                    ),
                ),
                (
                    "person",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="published",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Policy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "mfa",
                    models.BooleanField(
                        default=True, help_text="whether codes are asked for at all", verbose_name="MFA"
                    ),
                ),
                (
                    "unenrolled",
                    models.CharField(
                        choices=[
                            ("skip", "not asked"),
                            ("invite", "enrols with an invitation"),
                            ("enroll", "enrols at the prompt"),
                            ("deny", "refused"),
                        ],
                        default="skip",
                        max_length=8,
                    ),
                ),
                (
                    "enrolment_days",
                    models.PositiveSmallIntegerField(
                        default=7,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(365),
                        ],
                    ),
                ),
                (
                    "max_offline",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="seconds without a fresh manifest after which a host refuses all but the break-glass users",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(3600)],
                    ),
                ),
                ("break_glass", models.JSONField(blank=True, default=list, help_text="login names, as a JSON list")),
                (
                    "claims",
                    models.BooleanField(default=True, help_text="whether a code is good once in the whole fleet"),
                ),
                (
                    "host_group",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, related_name="policy", to="directory.hostgroup"
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "policies",
            },
        ),
        migrations.CreateModel(
            name="JoinToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("token_hash", models.CharField(editable=False, max_length=64, unique=True)),
                (
                    "host_name",
                    models.CharField(blank=True, help_text="empty: for any host of the group", max_length=253),
                ),
                ("created", models.DateTimeField(auto_now_add=True)),
                ("created_by", models.CharField(editable=False, max_length=64)),
                ("expires", models.DateTimeField()),
                ("used", models.DateTimeField(editable=False, null=True)),
                (
                    "group",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="join_tokens",
                        to="directory.hostgroup",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Invitation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("token_hash", models.CharField(editable=False, max_length=64, unique=True)),
                ("created", models.DateTimeField(auto_now_add=True)),
                ("created_by", models.CharField(editable=False, max_length=64)),
                ("expires", models.DateTimeField()),
                ("used", models.DateTimeField(editable=False, null=True)),
                (
                    "person",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="invitations",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.AddField(
            model_name="host",
            name="group",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="hosts", to="directory.hostgroup"
            ),
        ),
        migrations.CreateModel(
            name="Group",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        max_length=64,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\\Z",
                                "1 to 64 letters, digits, dots, dashes, @ and _",
                            )
                        ],
                    ),
                ),
                (
                    "persons",
                    models.ManyToManyField(
                        blank=True, related_name="memberships", to=settings.AUTH_USER_MODEL, verbose_name="people"
                    ),
                ),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Event",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("ident", models.CharField(max_length=32, unique=True)),
                ("name", models.CharField(max_length=256)),
                ("time", models.DateTimeField(db_index=True)),
                ("received", models.DateTimeField(auto_now_add=True)),
                ("kind", models.CharField(max_length=16)),
                ("service", models.CharField(blank=True, max_length=64)),
                ("reason", models.CharField(blank=True, max_length=64)),
                ("authenticator", models.CharField(blank=True, max_length=32)),
                (
                    "host",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="events",
                        to="directory.host",
                    ),
                ),
                (
                    "person",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="events",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["-time", "-id"],
            },
        ),
        migrations.CreateModel(
            name="Claim",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("authenticator", models.CharField(max_length=64)),
                ("step", models.BigIntegerField()),
                ("login", models.CharField(max_length=32)),
                ("time", models.DateTimeField(auto_now_add=True, db_index=True)),
                (
                    "host",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to="directory.host"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Authenticator",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "ident",
                    models.CharField(
                        default=pam_totp.directory.models.ident, editable=False, max_length=32, unique=True
                    ),
                ),
                ("label", models.CharField(default="phone", max_length=32)),
                (
                    "state",
                    models.CharField(
                        choices=[("pending", "pending"), ("active", "active")],
                        default="pending",
                        editable=False,
                        max_length=8,
                    ),
                ),
                ("created", models.DateTimeField(auto_now_add=True)),
                ("secret", models.BinaryField()),
                (
                    "person",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="authenticators",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["created", "id"],
            },
        ),
        migrations.CreateModel(
            name="Access",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "group",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="accesses", to="directory.group"
                    ),
                ),
                (
                    "host_group",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="accesses", to="directory.hostgroup"
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "access",
            },
        ),
        migrations.AddConstraint(
            model_name="published",
            constraint=models.UniqueConstraint(fields=("host", "person"), name="published_once"),
        ),
        migrations.AddConstraint(
            model_name="published",
            constraint=models.UniqueConstraint(
                condition=models.Q(("person", None)), fields=("host",), name="published_policy_once"
            ),
        ),
        migrations.AddIndex(
            model_name="host",
            index=models.Index(fields=["expires"], name="host_expires"),
        ),
        migrations.AddIndex(
            model_name="host",
            index=models.Index(
                condition=models.Q(("changes__gt", models.F("done")), ("revoked", None)),
                fields=["id"],
                name="host_behind",
            ),
        ),
        migrations.AddConstraint(
            model_name="claim",
            constraint=models.UniqueConstraint(fields=("authenticator", "step"), name="claim_once"),
        ),
        migrations.AddConstraint(
            model_name="access",
            constraint=models.UniqueConstraint(fields=("group", "host_group"), name="access_once"),
        ),
    ]
