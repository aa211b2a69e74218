"""boto3, as this service uses it. app.storage.objects imports it with the first upload or download."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from app.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS = 2
READ_SECONDS = 10


def client(settings: Settings, endpoint: str, connections: int) -> S3Client:
    """A client. Several threads may share it."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint or None,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id or None,
        aws_secret_access_key=settings.s3_secret_access_key or None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=connections,
            # The newer default adds checksums that only Amazon's own servers understand.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def refusal(error: Exception) -> str | None:
    """The store's error code, or the name of the connection error; None if the error is a bug of ours."""
    if isinstance(error, ClientError):
        return str(error.response["Error"]["Code"])
    return type(error).__name__ if isinstance(error, (BotoCoreError, HTTPClientError, OSError)) else None
