"""The object store: S3, or what speaks like it. Only this module knows boto3, whose calls wait in threads of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import IO, TYPE_CHECKING, NamedTuple, TypeVar

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from app.settings import Settings
from app.web.errors import AppError, Code

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

log = structlog.get_logger("storage")

# Of our own, so that a store that hangs keeps nobody else's threads.
THREADS = 32
CHUNK = 256 * 1024
CONNECT_SECONDS = 2
READ_SECONDS = 10
ABSENT = {"404", "NoSuchKey", "NotFound"}
REFUSED = Code.SERVICE_UNAVAILABLE, "The store of attachments can't be reached right now: try again in a moment"

T = TypeVar("T")


class StoredObject(NamedTuple):
    """One object, as a listing shows it."""

    key: str
    size: int
    modified: datetime


class ObjectStore:
    """One bucket. Every method raises AppError SERVICE_UNAVAILABLE where the store is away, or none is configured."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = settings.s3_bucket
        self._threads = ThreadPoolExecutor(THREADS, "object-store")
        self._client: S3Client | None = None
        if settings.s3_bucket:
            self._client = _client(settings, settings.s3_endpoint_url)
            # A signature covers the host, so that links for browsers are signed for the name which they use.
            public = settings.s3_public_endpoint_url
            self._signer = _client(settings, public) if public else self._client

    @property
    def configured(self) -> bool:
        """Whether there is a store at all."""
        return self._client is not None

    def close(self) -> None:
        """Let go of threads and connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    async def put(self, key: str, file: IO[bytes], size: int, content_type: str) -> None:
        """Store a file, read as it is sent."""

        def send(client: S3Client) -> None:
            file.seek(0)
            client.put_object(Bucket=self._bucket, Key=key, Body=file, ContentLength=size, ContentType=content_type)

        await self._do(send)

    async def open(self, key: str, first: int, last: int) -> AsyncIterator[bytes] | None:
        """Those bytes of an object, chunk by chunk; None where there is no such object."""

        def get(client: S3Client) -> StreamingBody:
            return client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={first}-{last}")["Body"]

        body = await self._do(get, absent=None)
        return None if body is None else self._chunks(body)

    async def size(self, key: str) -> int | None:
        """An object's size; None where there is no such object."""

        def look(client: S3Client) -> int:
            return client.head_object(Bucket=self._bucket, Key=key)["ContentLength"]

        return await self._do(look, absent=None)

    async def copy(self, source: str, key: str) -> bool:
        """Copy within the store; False where there is no such object."""

        def copy(client: S3Client) -> bool:
            client.copy_object(Bucket=self._bucket, Key=key, CopySource={"Bucket": self._bucket, "Key": source})
            return True

        return bool(await self._do(copy, absent=False))

    async def delete(self, key: str) -> None:
        """Delete an object, if it is there."""
        await self._do(lambda client: client.delete_object(Bucket=self._bucket, Key=key), absent=None)

    def sign_put(self, key: str, size: int, content_type: str, seconds: int) -> str:
        """A URL that takes exactly this many bytes of this type."""
        parameters = {"Bucket": self._bucket, "Key": key, "ContentLength": size, "ContentType": content_type}
        self._required()
        return self._signer.generate_presigned_url("put_object", Params=parameters, ExpiresIn=seconds)

    def sign_get(self, key: str, disposition: str, content_type: str, seconds: int) -> str:
        """A URL that downloads the object under that name."""
        parameters = {
            "Bucket": self._bucket,
            "Key": key,
            "ResponseContentDisposition": disposition,
            "ResponseContentType": content_type,
        }
        self._required()
        return self._signer.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)

    def every_object(self) -> Iterator[StoredObject]:
        """All that the bucket holds; for commands, as it blocks."""
        after = ""
        while True:
            page = self._call(partial(self._page, after), absent=None)
            for entry in page.get("Contents", ()) if page else ():
                yield StoredObject(entry["Key"], entry["Size"], entry["LastModified"])
                after = entry["Key"]
            if not page or not page["IsTruncated"]:
                return

    def remove(self, key: str) -> None:
        """As `delete`, for commands."""
        self._call(lambda client: client.delete_object(Bucket=self._bucket, Key=key), absent=None)

    def _page(self, after: str, client: S3Client) -> ListObjectsV2OutputTypeDef:
        return client.list_objects_v2(Bucket=self._bucket, StartAfter=after)

    def _required(self) -> S3Client:
        if self._client is None:
            raise AppError(Code.SERVICE_UNAVAILABLE, "This service has no store for attachments: S3_BUCKET is not set")
        return self._client

    async def _chunks(self, body: StreamingBody) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._in_thread(lambda: body.read(CHUNK)):
                yield chunk
        finally:
            body.close()

    async def _do(self, work: Callable[[S3Client], T], *, absent: T | None = None) -> T | None:
        return await self._in_thread(lambda: self._call(work, absent=absent))

    def _call(self, work: Callable[[S3Client], T], *, absent: T | None) -> T | None:
        client = self._required()
        try:
            return work(client)
        except ClientError as error:
            reason = error.response["Error"]["Code"]
            if reason in ABSENT:
                return absent
            log.error("the object store refused", reason=reason, operation=error.operation_name)
            raise AppError(*REFUSED) from error
        except (BotoCoreError, HTTPClientError, OSError) as error:
            log.warning("object store unavailable", reason=type(error).__name__)
            raise AppError(*REFUSED) from error

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _client(settings: Settings, endpoint: str) -> S3Client:
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
            max_pool_connections=THREADS,
            # Newer defaults add checksums that only Amazon's own servers know.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
