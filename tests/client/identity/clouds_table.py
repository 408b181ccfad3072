"""Clouds to compare with openstacksdk's loader: spellings and mistakes that admins write."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

AUTH = "auth: {auth_url: https://keystone.example/v3, username: u, password: p, "
SCOPE = "project_name: t, user_domain_name: Default, project_domain_name: Default}"
PASSWORD = AUTH + SCOPE
OTHER = PASSWORD.replace("username: u", "username: other")
ENVIRONMENT = {
    "OS_AUTH_URL": "https://environment.example/v3",
    "OS_USERNAME": "from-environment",
    "OS_PASSWORD": "secret",
    "OS_PROJECT_NAME": "t",
    "OS_USER_DOMAIN_NAME": "Default",
    "OS_PROJECT_DOMAIN_ID": "default",
}


class Case(NamedTuple):
    """Files, environment variables and settings of one comparison.

    The files' paths begin with ``cwd``, ``home``, ``xdg`` (only read if named in
    ``env``) or ``etc``, which replaces ``/etc/openstack``. ``{here}`` in a variable
    stands for the parent of these directories.
    """

    name: str
    files: dict[str, str] = {}  # noqa: RUF012
    env: dict[str, str] = {}  # noqa: RUF012
    cloud: str | None = None
    region: str | None = None


def one(name: str, body: str, **more: Any) -> Case:
    """A case with one cloud, ``c``, in the working directory."""
    return Case(name, {"cwd/clouds.yaml": f"clouds:\n  c: {{{body}}}\n"}, **more)


def secure(name: str, cloud: str, secret: str) -> Case:
    return Case(
        name,
        {
            "cwd/clouds.yaml": f"clouds:\n  c: {{{cloud}}}\n",
            "home/.config/openstack/secure.yaml": f"clouds:\n  c: {{{secret}}}\n",
        },
    )


def public(name: str, cloud: str, profile: str, **more: Any) -> Case:
    return Case(
        name,
        {
            "cwd/clouds.yaml": f"clouds:\n  c: {{{cloud}}}\n",
            "cwd/clouds-public.yaml": f"public-clouds:\n  p: {{{profile}}}\n",
        },
        **more,
    )


def raw(auth: str, auth_type: str) -> str:
    return f"auth_type: {auth_type}, auth: {{{auth}}}"


URL = "auth_url: https://keystone.example:5000"
TWO = f"clouds:\n  c: {{{PASSWORD}}}\n  other: {{{OTHER}}}\n"

CASES = [
    # Which cloud.
    one("the only cloud", PASSWORD),
    one("the only cloud, by name", PASSWORD, cloud="c"),
    one("unknown cloud", PASSWORD, cloud="nope"),
    Case("several clouds, none named", {"cwd/clouds.yaml": TWO}),
    Case("several clouds, one named", {"cwd/clouds.yaml": TWO}, cloud="other"),
    Case("several clouds, OS_CLOUD", {"cwd/clouds.yaml": TWO}, {"OS_CLOUD": "other"}),
    Case("the name wins over OS_CLOUD", {"cwd/clouds.yaml": TWO}, {"OS_CLOUD": "other"}, cloud="c"),
    Case("OS_CLOUD names nothing", {"cwd/clouds.yaml": TWO}, {"OS_CLOUD": "nope"}),
    Case("OS_CLOUD without a file", {}, {"OS_CLOUD": "c"}),
    Case("empty OS_CLOUD", {"cwd/clouds.yaml": TWO.replace("  c:", "  x:")}, {"OS_CLOUD": ""}),
    Case(
        "a cloud called openstack is no default",
        {"cwd/clouds.yaml": TWO.replace("  c:", "  openstack:")},
    ),
    Case("nothing at all"),
    Case("a file without clouds", {"cwd/clouds.yaml": "client: {force_ipv4: true}\n"}),
    Case("an empty file", {"cwd/clouds.yaml": ""}),
    Case("a file that is a list", {"cwd/clouds.yaml": "- a\n- b\n"}),
    # Variables.
    Case("variables alone", {}, ENVIRONMENT),
    Case(
        "variables win over the only cloud",
        {"cwd/clouds.yaml": f"clouds: {{c: {{{PASSWORD}}}}}"},
        ENVIRONMENT,
    ),
    Case(
        "OS_CLOUD wins over variables", {"cwd/clouds.yaml": TWO}, {**ENVIRONMENT, "OS_CLOUD": "c"}
    ),
    Case(
        "the cloud envvars beside a file",
        {"cwd/clouds.yaml": TWO},
        {**ENVIRONMENT, "OS_CLOUD": "c"},
        cloud="envvars",
    ),
    Case(
        "variables under another name", {}, {**ENVIRONMENT, "OS_CLOUD_NAME": "mine"}, cloud="mine"
    ),
    Case(
        "a cloud in the file is called envvars",
        {"cwd/clouds.yaml": f"clouds: {{envvars: {{{PASSWORD}}}}}"},
    ),
    Case(
        "a region alone is no cloud",
        {"cwd/clouds.yaml": TWO},
        {"OS_REGION_NAME": "r", "OS_CLOUD": "c"},
    ),
    Case(
        "a stray variable makes a cloud",
        {"cwd/clouds.yaml": f"clouds: {{c: {{{PASSWORD}}}}}"},
        {"OS_DISTRIBUTION": "any"},
    ),
    Case(
        "variables of test runners count for nothing",
        {"cwd/clouds.yaml": f"clouds: {{c: {{{PASSWORD}}}}}"},
        {"OS_TEST_TIMEOUT": "1", "OS_STDOUT_CAPTURE": "1", "OS_LOG_CAPTURE": "1"},
    ),
    Case(
        "variables: region, interface, TLS",
        {},
        {
            **ENVIRONMENT,
            "OS_REGION_NAME": "r",
            "OS_INTERFACE": "internal",
            "OS_CACERT": "~/ca.pem",
            "OS_CERT": "/c.pem",
            "OS_KEY": "/k.pem",
        },
    ),
    Case("variables: several regions", {}, {**ENVIRONMENT, "OS_REGION_NAME": "r1,r2"}),
    Case("variables: endpoint type", {}, {**ENVIRONMENT, "OS_ENDPOINT_TYPE": "internalURL"}),
    Case("variables: insecure", {}, {**ENVIRONMENT, "OS_INSECURE": "True"}),
    Case("variables: insecure, off", {}, {**ENVIRONMENT, "OS_INSECURE": "no"}),
    Case("variables: verify is text", {}, {**ENVIRONMENT, "OS_VERIFY": "false"}),
    Case("variables: empty cacert", {}, {**ENVIRONMENT, "OS_CACERT": ""}),
    Case(
        "variables: tenant",
        {},
        {k: v for k, v in ENVIRONMENT.items() if "PROJECT" not in k} | {"OS_TENANT_NAME": "t"},
    ),
    Case(
        "variables: token",
        {},
        {
            "OS_AUTH_TYPE": "token",
            "OS_TOKEN": "tok",
            "OS_AUTH_URL": "https://k.example/",
            "OS_PROJECT_ID": "1",
        },
    ),
    Case(
        "variables: application credential",
        {},
        {
            "OS_AUTH_TYPE": "v3applicationcredential",
            "OS_AUTH_URL": "https://k.example/v3",
            "OS_APPLICATION_CREDENTIAL_ID": "i",
            "OS_APPLICATION_CREDENTIAL_SECRET": "s",
        },
    ),
    Case(
        "variables: endpoint override",
        {},
        {**ENVIRONMENT, "OS_OBJECT_STORE_ENDPOINT_OVERRIDE": "https://swift.example/v1/AUTH_x"},
    ),
    Case("variables: none", {}, {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": "https://s.example/v1/A"}),
    # Files.
    *(
        Case(f"clouds in {place}", {f"{place}/clouds.{suffix}": f"clouds: {{c: {{{PASSWORD}}}}}"})
        for place in ("cwd", "home/.config/openstack", "etc")
        for suffix in ("yaml", "yml")
    ),
    Case(
        "XDG_CONFIG_HOME",
        {
            "xdg/openstack/clouds.yaml": f"clouds: {{c: {{{PASSWORD}}}}}",
            "home/.config/openstack/clouds.yaml": f"clouds: {{c: {{{OTHER}}}}}",
        },
        {"XDG_CONFIG_HOME": "{here}/xdg"},
    ),
    Case(
        "relative XDG_CONFIG_HOME",
        {"cwd/xdg/openstack/clouds.yaml": TWO, "etc/clouds.yaml": f"clouds: {{c: {{{OTHER}}}}}"},
        {"XDG_CONFIG_HOME": "xdg"},
    ),
    Case(
        "XDG_CONFIG_DIRS",
        {
            "xdg/openstack/clouds.yaml": f"clouds: {{c: {{{PASSWORD}}}}}",
            "etc/clouds.yaml": f"clouds: {{c: {{{OTHER}}}}}",
        },
        {"XDG_CONFIG_DIRS": "{here}/xdg"},
    ),
    Case(
        "several XDG_CONFIG_DIRS",
        {
            "xdg/openstack/clouds.yaml": f"clouds: {{c: {{{PASSWORD}}}}}",
            "etc/clouds.yaml": f"clouds: {{c: {{{OTHER}}}}}",
        },
        {"XDG_CONFIG_DIRS": "{here}/xdg:/nowhere"},
    ),
    Case(
        "the working directory comes first",
        {
            "cwd/clouds.yaml": f"clouds: {{c: {{{PASSWORD}}}}}",
            "home/.config/openstack/clouds.yaml": f"clouds: {{c: {{{OTHER}}}}}",
        },
    ),
    Case(
        "yaml before yml",
        {
            "cwd/clouds.yml": f"clouds: {{c: {{{OTHER}}}}}",
            "cwd/clouds.yaml": f"clouds: {{c: {{{PASSWORD}}}}}",
        },
    ),
    Case(
        "files are not merged with each other",
        {
            "cwd/clouds.yaml": f"clouds: {{c: {{{PASSWORD}}}}}",
            "etc/clouds.yaml": f"clouds: {{d: {{{OTHER}}}}}",
        },
        cloud="d",
    ),
    Case(
        "JSON",
        {
            "cwd/clouds.json": json.dumps(
                {
                    "clouds": {
                        "c": {
                            "auth": {
                                "auth_url": "https://k.example",
                                "username": "ü",
                                "password": "p",
                            }
                        }
                    }
                }
            )
        },
    ),
    Case(
        "broken YAML is passed over",
        {"cwd/clouds.yaml": "clouds: [\n", "etc/clouds.yaml": f"clouds: {{c: {{{PASSWORD}}}}}"},
    ),
    Case(
        "broken JSON is passed over",
        {"cwd/clouds.json": "{", "etc/clouds.yaml": f"clouds: {{c: {{{PASSWORD}}}}}"},
    ),
    Case("broken YAML and nothing else", {"cwd/clouds.yaml": "clouds: [\n"}),
    Case(
        "an empty file hides the next",
        {"cwd/clouds.yaml": "", "etc/clouds.yaml": f"clouds: {{c: {{{PASSWORD}}}}}"},
    ),
    Case(
        "OS_CLIENT_CONFIG_FILE",
        {"elsewhere/my.yaml": f"clouds: {{c: {{{PASSWORD}}}}}", "cwd/clouds.yaml": TWO},
        {"OS_CLIENT_CONFIG_FILE": "{here}/elsewhere/my.yaml"},
    ),
    Case(
        "OS_CLIENT_CONFIG_FILE is a directory",
        {"cwd/clouds.yaml": f"clouds: {{c: {{{PASSWORD}}}}}"},
        {"OS_CLIENT_CONFIG_FILE": "{here}/cwd"},
    ),
    Case(
        "OS_CLIENT_SECURE_FILE",
        {
            "cwd/clouds.yaml": f"clouds: {{c: {{{PASSWORD}}}}}",
            "elsewhere/s.yaml": "clouds: {c: {auth: {password: better}}}",
        },
        {"OS_CLIENT_SECURE_FILE": "{here}/elsewhere/s.yaml"},
    ),
    secure(
        "secure.yaml adds to auth", PASSWORD.replace("password: p, ", ""), "auth: {password: s}"
    ),
    secure("secure.yaml wins", PASSWORD, "auth: {password: s}, region_name: r, verify: false"),
    secure("secure.yaml replaces lists", f"{PASSWORD}, regions: [a, b]", "regions: [c]"),
    Case("secure.yaml alone", {"cwd/secure.yaml": f"clouds: {{c: {{{PASSWORD}}}}}"}),
    Case(
        "secure.yaml brings another cloud",
        {
            "cwd/clouds.yaml": f"clouds: {{c: {{{PASSWORD}}}}}",
            "cwd/secure.yaml": "clouds: {d: {auth: {}}}",
        },
    ),
    # Regions.
    one("a region", f"{PASSWORD}, region_name: r"),
    one("a region written with a dash", f"{PASSWORD}, region-name: r"),
    one("an empty region", f"{PASSWORD}, region_name: ''"),
    one("a region that is a number", f"{PASSWORD}, region_name: '1'"),
    one("regions in one string", f"{PASSWORD}, region_name: 'r1,r2'"),
    one("regions in region_name", f"{PASSWORD}, region_name: [r1, r2]"),
    one("regions", f"{PASSWORD}, regions: [r1, r2]"),
    one("regions, the second", f"{PASSWORD}, regions: [r1, r2]", region="r2"),
    one("regions, an unknown one", f"{PASSWORD}, regions: [r1, r2]", region="R2"),
    one("regions win over region_name", f"{PASSWORD}, regions: [r1, r2], region_name: r2"),
    one(
        "values of a region",
        f"{PASSWORD}, regions: [{{name: r1, values: {{interface: internal, "
        "auth: {auth_url: 'https://r1.example', project_name: x}, verify: null}}, r2]",
    ),
    one(
        "values of another region",
        f"{PASSWORD}, regions: [{{name: r1, values: {{interface: internal}}}}, {{name: r2}}]",
        region="r2",
    ),
    one("a region entry without a name", f"{PASSWORD}, regions: [{{values: {{}}}}]"),
    one("a region entry with more", f"{PASSWORD}, regions: [{{name: r, more: 1}}]"),
    one(
        "a region for Swift alone", f"{PASSWORD}, region_name: GRA7, object_store_region_name: GRA"
    ),
    # Interface and endpoint.
    one("interface", f"{PASSWORD}, interface: internal"),
    one(
        "interface for Swift alone", f"{PASSWORD}, interface: admin, object_store_interface: public"
    ),
    one("endpoint_type", f"{PASSWORD}, endpoint_type: internalURL"),
    one("endpoint_type and interface", f"{PASSWORD}, endpoint_type: internal, interface: admin"),
    one("endpoint_type for Swift alone", f"{PASSWORD}, object_store_endpoint_type: internal"),
    one("interfaces by preference", f"{PASSWORD}, interface: [internal, public]"),
    one("no interface", f"{PASSWORD}, interface: null"),
    one("endpoint override", f"{PASSWORD}, object_store_endpoint_override: 'https://s.example/v1'"),
    one(
        "endpoint override with dashes", f"{PASSWORD}, object-store-endpoint-override: 'https://s'"
    ),
    one("object_store_endpoint", f"{PASSWORD}, object_store_endpoint: 'https://s.example/v1/A'"),
    one(
        "both overrides",
        f"{PASSWORD}, object_store_endpoint: 'https://a', "
        "object_store_endpoint_override: 'https://b'",
    ),
    one(
        "an override with a region in it",
        f"{PASSWORD}, region_name: r, "
        "object_store_endpoint_override: 'https://{{region_name}}.example'".replace(
            "{{", "{"
        ).replace("}}", "}"),
    ),
    one("another service's override", f"{PASSWORD}, image_endpoint_override: 'https://i.example'"),
    one(
        "a service type and name",
        f"{PASSWORD}, object_store_service_type: archive, object_store_service_name: swift2",
    ),
    # TLS.
    one("verify false", f"{PASSWORD}, verify: false"),
    one("verify 'false'", f"{PASSWORD}, verify: 'false'"),
    one("verify null", f"{PASSWORD}, verify: null"),
    one("insecure", f"{PASSWORD}, insecure: true"),
    one("insecure 'TRUE'", f"{PASSWORD}, insecure: 'TRUE'"),
    one("insecure 'yes' is not true", f"{PASSWORD}, insecure: 'yes'"),
    one("insecure beats cacert", f"{PASSWORD}, insecure: true, cacert: /ca.pem"),
    one("cacert", f"{PASSWORD}, cacert: ~/ca.pem"),
    one("cacert without verifying", f"{PASSWORD}, cacert: /ca.pem, verify: false"),
    one("cert", f"{PASSWORD}, cert: ~/c.pem"),
    one("cert and key", f"{PASSWORD}, cert: ~/c.pem, key: ~/k.pem"),
    one("key alone", f"{PASSWORD}, key: /k.pem"),
    # Spellings and domains.
    one("tenant", raw(f"{URL}, username: u, password: p, tenant_name: t", "password")),
    one(
        "tenant and project",
        raw(f"{URL}, username: u, password: p, tenant_name: a, project_name: b", "password"),
    ),
    one("tenant-id", raw(f"{URL}, username: u, password: p, tenant-id: 5", "password")),
    one("user_name", raw(f"{URL}, user_name: u, password: p", "password")),
    one("user-name", raw(f"{URL}, user-name: u, password: p", "password")),
    one("a number as password", raw(f"{URL}, username: 1, password: 12345", "password")),
    one("braces in a password", raw(f"{URL}, username: u, password: 'a{{b}}c'", "password")),
    one(
        "domain_id for both",
        raw(f"{URL}, username: u, password: p, project_name: t, domain_id: d", "v3password"),
    ),
    one(
        "domain_name for one",
        raw(
            f"{URL}, username: u, password: p, project_name: t, "
            "domain_name: d, user_domain_name: e",
            "v3password",
        ),
    ),
    one(
        "a domain without a project",
        raw(f"{URL}, username: u, password: p, domain_name: d, user_domain_name: e", "v3password"),
    ),
    one(
        "domains beside auth",
        raw(f"{URL}, username: u, password: p, project_name: t", "v3password")
        + ", user_domain_id: d, project_domain_name: e",
    ),
    one(
        "beside auth wins",
        raw(f"{URL}, username: u, password: p, project_name: in-auth", "password")
        + ", project_name: beside",
    ),
    one(
        "in auth wins for the rest",
        raw(f"{URL}, username: in-auth, password: p", "password") + ", username: beside",
    ),
    one("everything beside auth", f"{URL}, username: u, password: p, project_name: t"),
    one(
        "default_domain",
        raw(f"{URL}, username: u, password: p, project_name: t, default_domain: d", "password"),
    ),
    one(
        "default_domain_id",
        raw(f"{URL}, username: u, password: p, project_name: t, default_domain_id: d", "password"),
    ),
    one(
        "an empty project",
        raw(f"{URL}, username: u, password: p, project_name: '', project_id: 7", "password"),
    ),
    one(
        "a region in auth_url",
        "region_name: r, "
        + raw("auth_url: 'https://{region_name}.example', username: u, password: p", "password"),
    ),
    one(
        "an unknown placeholder in auth_url",
        raw("auth_url: 'https://{nope}.example', username: u, password: p", "password"),
    ),
    # Methods.
    one("v3password by id", raw(f"{URL}, user_id: i, password: p, project_id: j", "v3password")),
    one("v3password without a user domain", raw(f"{URL}, username: u, password: p", "v3password")),
    one(
        "v3password without a project domain",
        raw(f"{URL}, user_id: u, password: p, project_name: t", "v3password"),
    ),
    one("v3password without auth_url", raw("user_id: u, password: p", "v3password")),
    one(
        "v3applicationcredential",
        raw(
            f"{URL}, application_credential_id: i, application_credential_secret: s",
            "v3applicationcredential",
        ),
    ),
    one(
        "v3applicationcredential by name",
        raw(
            f"{URL}, application_credential_name: n, username: u,"
            " user_domain_name: d, application_credential_secret: s",
            "v3applicationcredential",
        ),
    ),
    one(
        "v3applicationcredential without a secret",
        raw(f"{URL}, application_credential_id: i", "v3applicationcredential"),
    ),
    one("v3token", raw(f"{URL}, token: t, project_id: p", "v3token")),
    one("v3token as auth_token", raw(f"{URL}, auth_token: t, project_id: p", "v3token")),
    one("token", raw(f"{URL}, token: t, project_name: p, project_domain_id: d", "token")),
    one("v2password", raw(f"{URL}/v2.0, username: u, password: p, project_name: t", "v2password")),
    one("v3totp", raw(f"{URL}, user_id: u, passcode: 123456, project_id: j", "v3totp")),
    one(
        "v3oidcpassword",
        raw(
            f"{URL}, identity_provider: i, protocol: o, client_id: c, "
            "client_secret: s, access_token_endpoint: 'https://i', username: u, password: p, "
            "project_id: j",
            "v3oidcpassword",
        ),
    ),
    one(
        "v3multifactor",
        raw(
            f"{URL}, user_id: u, password: p, passcode: 123456, project_id: j, "
            "auth_methods: [v3password, v3totp]",
            "v3multifactor",
        ),
    ),
    one(
        "v3multifactor, methods beside auth",
        f"auth_methods: 'v3password,v3totp', user_id: u, "
        f"password: p, passcode: 1, {raw(f'{URL}, project_id: j', 'v3multifactor')}",
    ),
    one(
        "v1password",
        raw("auth_url: 'https://s.example/auth/v1.0', username: 'a:u', password: p", "v1password"),
    ),
    one("http_basic", raw("endpoint: 'https://s.example', username: u, password: p", "http_basic")),
    one("none", raw("endpoint: 'https://s.example/v1/A'", "none")),
    one("none as null", "auth_type: null, auth: {endpoint: 'https://s.example/v1/A'}"),
    one("none as 'None'", raw("endpoint: 'https://s.example/v1/A'", "'None'")),
    one("admin_token", raw("endpoint: 'https://s.example', token: t", "admin_token")),
    one("token_endpoint", raw("endpoint: 'https://s.example', token: t", "token_endpoint")),
    one("token_endpoint with url", raw("url: 'https://s.example', token: t", "token_endpoint")),
    one("auth_plugin counts for nothing", f"auth_plugin: v3password, {PASSWORD}"),
    one("an unknown method", raw(URL, "v4password")),
    one("an unknown option", raw(f"{URL}, username: u, pasword: p, password: q", "password")),
    one(
        "a timeout and other things of no interest",
        f"{PASSWORD}, api_timeout: 5, image_timeout: 9, volume_api_version: 3, floating: 1.5",
    ),
    # Profiles.
    public("a profile", f"profile: p, {PASSWORD}", "region_name: r, interface: internal"),
    public("a profile under its older name", f"cloud: p, {PASSWORD}", "region_name: r"),
    public(
        "a profile brings auth_url",
        "profile: p, auth: {username: u, password: p}",
        f"auth: {{{URL}, project_name: t}}, verify: false",
    ),
    public("a profile's regions", f"profile: p, {PASSWORD}", "regions: [r1, r2]"),
    public(
        "a profile's regions, the second",
        f"profile: p, {PASSWORD}",
        "regions: [r1, {name: r2, values: {interface: internal}}]",
        region="r2",
    ),
    public(
        "the cloud's region wins over the profile's list",
        f"profile: p, {PASSWORD}, region_name: mine",
        "regions: [{name: mine, values: {interface: admin}}, r2]",
    ),
    public(
        "the cloud wins over its profile",
        f"profile: p, interface: admin, {PASSWORD}",
        "interface: internal, auth: {project_name: x}",
    ),
    public("an unknown profile", f"profile: nope, {PASSWORD}", "region_name: r"),
    Case(
        "a profile in the environment",
        {
            "cwd/clouds-public.yaml": "public-clouds: {p: {interface: admin, verify: false, "
            "region_name: r}}"
        },
        {**ENVIRONMENT, "OS_PROFILE": "p"},
    ),
]

#: The cases for which openstacksdk makes no plugin; the provider must refuse them too.
REFUSED = {
    "unknown cloud",
    "several clouds, none named",
    "OS_CLOUD names nothing",
    "OS_CLOUD without a file",
    "empty OS_CLOUD",
    "a cloud called openstack is no default",
    "nothing at all",
    "a file without clouds",
    "an empty file",
    "a file that is a list",
    "a cloud in the file is called envvars",
    "a stray variable makes a cloud",
    "files are not merged with each other",
    "broken YAML and nothing else",
    "an empty file hides the next",
    "secure.yaml brings another cloud",
    "regions, an unknown one",
    "a region entry without a name",
    "a region entry with more",
    "an unknown placeholder in auth_url",
    "v3password without a user domain",
    "v3password without a project domain",
    "v3password without auth_url",
    "v3applicationcredential without a secret",
    "default_domain",
    "an unknown method",
    "an unknown option",
}
