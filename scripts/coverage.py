#!/usr/bin/env python3
"""Writes docs/coverage/*.tsv: every public endpoint of a vendor, and the action of our connector that it is.

The endpoints are read from the vendors' own packages, fetched with their ordinary clients into a folder:

    mkdir packages && cd packages
    npm pack @slack/web-api@8.2.0 @octokit/openapi@23.0.2 @notionhq/client@5.26.0
    pip download --no-deps openai==3.57.0 anthropic==2.14.0
    ../scripts/coverage.py .

A row is `method TAB path TAB actions or "-" TAB why not`. Actions are kept from the table that is there; a new endpoint
comes in as refused. The test `coverage` of the connectors crate fails when a table and its manifest do not agree, and writes the
actions anew with UPDATE_COVERAGE=1.
"""
import io, json, pathlib, re, sys, tarfile, zipfile

OUT = pathlib.Path(__file__).resolve().parent.parent / "docs" / "coverage"

OTHER = "not offered by the connector"
OLDER = "in older versions of the API"
# Endpoints that the newest package does not have any more, and that the vendor still answers.
OLD = {"notion": [("POST", "/v1/databases/{database_id}/query")]}
# Why not, by the beginning of the path; the first that fits.
REASONS = {
    "slack": [
        (r"/admin\.", "administers the workspace"),
        (r"/(oauth|openid|auth|tooling|apps\.auth|migration)\b", "is about credentials, which are the gateway's"),
        (r"/apps\.|/functions\.|/workflows?\.|/entity\.", "is about apps themselves"),
        (r"/(rtm|views|dialog|assistant|agents?)\.", "is an app's own surface, not the work of a Claw"),
        (r"/files\.", "files are not among the actions"),
        (r"/conversations\.", "changes channels or who is in them"),
        (r"/(users\.profile\.set|users\.set|users\.delete|dnd|stars|reminders)", "is about the app's own account"),
    ],
    "github": [
        (r"/(enterprises|organizations|orgs|teams)\b", "administers organizations"),
        (r"/(user|users|notifications|gists|feeds|events)\b", "is about the account, not about a repository"),
        (r"/(app|apps|applications|installation|marketplace_listing|credentials)\b", "is about credentials, which are the gateway's"),
        (r".*/(secrets|variables|keys|hooks|environments|collaborators|invitations|autolinks|rulesets|rules|security|"
         r"code-scanning|secret-scanning|dependabot|vulnerability-alerts|automated-security-fixes|protection|interaction-limits|"
         r"private-vulnerability-reporting|properties|attestations|codespaces|immutable-releases|transfer)\b",
         "changes or shows who and what a repository trusts"),
        (r".*/actions\b", "runs code with the repository's secrets"),
    ],
    "notion": [
        (r"/v1/oauth", "is about credentials, which are the gateway's"),
        (r"/v1/(agents|threads|sessions|external_agent_stub|async_tasks)", "is about Notion's own agents"),
        (r"/v1/data_sources", "its database is not in the request, so a guardrail on the database would not hold"),
        (r"/v1/file_uploads", "files are not among the actions"),
    ],
    "openai": [
        (r"/v1/(organization|admin|projects)", "administers the account"),
        (r"/v1/(files|uploads|vector_stores|batches|fine_tuning|evals|containers|conversations|skills)", "keeps content at the provider"),
        (r"/v1/(assistants|threads|agents|chatkit|realtime|videos)", "is an agent or a session of the provider's own"),
    ],
    "anthropic": [
        (r"/v1/(organizations|compliance|workspaces)", "administers the account"),
        (r"/v1/(files|messages/batches|skills|memory_stores|vaults)", "keeps content at the provider"),
        (r"/v1/(agents|sessions|environments|deployments|deployment_runs|dreams)", "is an agent or a session of the provider's own"),
    ],
}


def npm(folder, name, member):
    package = next(folder.glob(f"{name}-[0-9]*.tgz"))
    with tarfile.open(package) as archive:
        for info in archive:
            if re.fullmatch(f"package/{member}", info.name):
                yield archive.extractfile(info).read().decode()


def wheel(folder, name):
    with zipfile.ZipFile(next(folder.glob(f"{name}-*.whl"))) as archive:
        for member in archive.namelist():
            if member.startswith(f"{name}/resources/") and member.endswith(".py"):
                yield archive.read(member).decode()


def slack(folder):
    for text in npm(folder, "slack-web-api", r"dist/methods\.js"):
        for method in re.findall(r"bindApiCall(?:WithOptionalArgument)?\(this, '([A-Za-z.]+)'\)", text):
            yield "POST", f"/{method}"


def github(folder):
    for text in npm(folder, "octokit-openapi", r"generated/api\.github\.com\.json"):
        for path, item in json.loads(text)["paths"].items():
            for method in item.keys() & {"get", "put", "post", "patch", "delete", "head"}:
                yield method.upper(), path


def notion(folder):
    for text in npm(folder, "notionhq-client", r"build/src/api-endpoints/.*\.js"):
        pattern = r'method: "(\w+)".*?path: \((?:p)?\) => `([^`]+)`'
        for method, path in re.findall(pattern, text, re.S):
            yield method.upper(), "/v1/" + re.sub(r"\$\{p\.(\w+)\}", r"{\1}", path)


def python_sdk(folder, name, prefix):
    calls = r'self\._(get|post|put|patch|delete|get_api_list)(?:\(|,)\s*(?:path_template\(\s*)?f?"(/[^"?]*)'
    for text in wheel(folder, name):
        for method, path in re.findall(calls, text):
            yield {"get_api_list": "GET"}.get(method, method.upper()), prefix + path


def kept(file):
    rows = {}
    if file.exists():
        for line in file.read_text().splitlines():
            if line and not line.startswith("#"):
                method, path, actions, why = line.split("\t")
                rows[method, path] = (actions, why)
    return rows


def write(name, source, endpoints):
    file = OUT / f"{name}.tsv"
    known, out = kept(file), io.StringIO()
    out.write(f"# {source}; written by scripts/coverage.py\n")
    old = OLD.get(name, [])
    for method, path in sorted({*endpoints, *old}, key=lambda row: (row[1], row[0])):
        actions, _ = known.get((method, path), ("-", ""))
        why = next((why for start, why in REASONS[name] if re.match(start, path)), OTHER)
        why = why if actions == "-" else OLDER if (method, path) in old else ""
        out.write(f"{method}\t{path}\t{actions}\t{why}\n")
    file.write_text(out.getvalue())
    print(f"{name}: {out.getvalue().count(chr(10)) - 1} endpoints")


folder = pathlib.Path(sys.argv[1])
OUT.mkdir(exist_ok=True)
write("slack", "npm @slack/web-api 8.2.0", slack(folder))
write("github", "npm @octokit/openapi 23.0.2, api.github.com", github(folder))
write("notion", "npm @notionhq/client 5.26.0", notion(folder))
write("openai", "PyPI openai 3.57.0", python_sdk(folder, "openai", "/v1"))
write("anthropic", "PyPI anthropic 2.14.0", python_sdk(folder, "anthropic", ""))
