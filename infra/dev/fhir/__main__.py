"""`python -m infra.dev.fhir --database-url-env NAME --schema fhir_ehr --port N` runs the server on 127.0.0.1."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import uvicorn

from infra.dev.fhir.app import create_app
from infra.dev.fhir.auth import read_auth
from tasks.errors import ConfigError


def main() -> int:
    """Run the server until it is told to stop; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.dev.fhir", description="A FHIR R4 server for development.")
    parser.add_argument("--database-url-env", required=True, help="the environment variable that holds the URL")
    parser.add_argument("--schema", default="fhir")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--base-url", help="what links start with, where a proxy stands before the server")
    parser.add_argument("--auth", type=Path, help="a JSON file that says who may come in; without it everybody may")
    args = parser.parse_args()
    database_url = os.environ.get(args.database_url_env)
    if not database_url:
        print(f"error: the environment has no {args.database_url_env}: set it to a Postgres URL", file=sys.stderr)  # noqa: T201
        return 2
    try:
        auth = read_auth(args.auth) if args.auth else None
        app = create_app(database_url, args.schema, args.base_url, auth=auth)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    # Access logs are off: a URL holds search values.
    uvicorn.run(app, host=args.host, port=args.port, access_log=False, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
