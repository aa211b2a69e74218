"""The object store: S3, or a server with the same API. Calls of its client block, so they run in threads."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

import structlog
from opentelemetry import trace
from prometheus_client import Counter, Histogram

from app.settings import Settings
from app.web.errors import AppError, Code

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        CompletedMultipartUploadTypeDef,
        CompletedPartTypeDef,
        ListObjectsV2OutputTypeDef,
    )

log = structlog.get_logger("storage")

# A pool of threads for the store alone: if the store hangs, it blocks no other work.
THREADS = 32
CHUNK = 256 * 1024
# Of an upload: an object has at most 10,000 parts.
PART = 16 * 1024 * 1024
tracer = trace.get_tracer("crm-service")

CALLS = Histogram(
    "crm_store_call_duration_seconds",
    "Time that the object store takes to answer",
    ["operation"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10),
)
FAILURES = Counter("crm_store_failures", "Calls that the object store refused or did not answer", ["reason"])

# Where clients put what is not accepted yet.
INCOMING = "incoming"
PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
ABSENT = {"404", "NoSuchKey", "NotFound"}
REFUSED = Code.SERVICE_UNAVAILABLE, "The store of attachments can't be reached right now: try again in a moment"

T = TypeVar("T")


class StoredObject(NamedTuple):
    """One object, as a listing shows it."""

    key: str
    size: int
    modified: datetime


def new_key(tenant: str) -> str:
    """The name of a new object in the store. It does not contain the file's name."""
    # A tenant's id may have characters that the store does not allow.
    plain = PLAIN.fullmatch(tenant) and tenant != INCOMING
    return f"{tenant if plain else '~' + hashlib.sha256(tenant.encode()).hexdigest()}/{uuid.uuid4()}"


class Upload:
    """A file to write to, in the store: it is there once it is completed. Its methods block, and raise AppError
    SERVICE_UNAVAILABLE as those of the store.
    """

    def __init__(self, call: Callable[..., Any], target: dict[str, str]) -> None:
        self._call = call
        self._target = target
        self._part = bytearray()
        self._tags: list[CompletedPartTypeDef] = []
        self._aborted = False
        self.size = 0

    def write(self, data: bytes, /) -> int:
        """Add bytes; after `abort` they are nobody's."""
        if self._aborted:
            return len(data)
        self._part += data
        self.size += len(data)
        if len(self._part) >= PART:
            self._send()
        return len(data)

    def flush(self) -> None:
        """For those who write to a file: parts are sent when they are large enough."""

    def close(self) -> None:
        """For those who write to a file: it is `complete` or `abort` that ends it."""

    def complete(self) -> None:
        """Store what was written as the object."""
        self._send()
        parts: CompletedMultipartUploadTypeDef = {"Parts": self._tags}
        self._call(lambda client: client.complete_multipart_upload(**self._target, MultipartUpload=parts))

    def abort(self) -> None:
        """Forget what was written."""
        self._aborted = True
        self._call(lambda client: client.abort_multipart_upload(**self._target))

    def _send(self) -> None:
        number, part = len(self._tags) + 1, bytes(self._part)
        self._part.clear()
        sent = self._call(lambda client: client.upload_part(**self._target, PartNumber=number, Body=part))
        self._tags.append({"ETag": sent["ETag"], "PartNumber": number})


class ObjectStore:
    """One bucket. Every method raises AppError SERVICE_UNAVAILABLE if the store is away or not configured."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bucket = settings.s3_bucket
        self._threads = ThreadPoolExecutor(THREADS, "object-store")
        self._making = threading.Lock()
        self._clients: dict[str, S3Client] = {}

    @property
    def configured(self) -> bool:
        """Whether there is a store at all."""
        return bool(self._bucket)

    def close(self) -> None:
        """Release threads and connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients.values():
            client.close()

    async def put(self, key: str, file: IO[bytes], size: int, content_type: str) -> None:
        """Store a file. It is read while it is sent."""

        def put(client: S3Client) -> None:
            file.seek(0)
            client.put_object(Bucket=self._bucket, Key=key, Body=file, ContentLength=size, ContentType=content_type)

        await self._do(put)

    async def upload(self, key: str, content_type: str) -> Upload:
        """Begin to store an object whose size nobody knows yet."""

        def begin(client: S3Client) -> str:
            return client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=content_type)["UploadId"]

        upload_id = await self._do(begin)
        assert upload_id is not None  # noqa: S101 -- `absent` is for what is read
        return Upload(partial(self._call, absent=None), {"Bucket": self._bucket, "Key": key, "UploadId": upload_id})

    async def open(self, key: str, first: int, last: int | None = None) -> AsyncGenerator[bytes] | None:
        """The bytes from `first` to `last` of an object, or to its end, in chunks; None if there is no such object."""
        end = "" if last is None else last

        def get(client: S3Client) -> StreamingBody:
            return client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={first}-{end}")["Body"]

        body = await self._do(get, absent=None)
        return None if body is None else self._chunks(body)

    async def size(self, key: str) -> int | None:
        """The size of an object; None if there is no such object."""

        def head(client: S3Client) -> int:
            return client.head_object(Bucket=self._bucket, Key=key)["ContentLength"]

        return await self._do(head, absent=None)

    async def copy(self, source: str, key: str) -> bool:
        """Copy within the store; False if there is no such object."""

        def copy(client: S3Client) -> bool:
            client.copy_object(Bucket=self._bucket, Key=key, CopySource={"Bucket": self._bucket, "Key": source})
            return True

        return bool(await self._do(copy, absent=False))

    async def delete(self, key: str) -> None:
        """Delete an object, if it is there."""

        def delete(client: S3Client) -> None:
            client.delete_object(Bucket=self._bucket, Key=key)

        await self._do(delete)

    async def sign_put(self, key: str, size: int, content_type: str, seconds: int) -> str:
        """A URL that accepts an upload of exactly this size and type."""
        parameters = {"Bucket": self._bucket, "Key": key, "ContentLength": size, "ContentType": content_type}
        return await self._signed("put_object", parameters, seconds)

    async def sign_get(self, key: str, disposition: str, content_type: str, seconds: int) -> str:
        """A URL that downloads the object. `disposition` holds the name for the file."""
        parameters = {
            "Bucket": self._bucket,
            "Key": key,
            "ResponseContentDisposition": disposition,
            "ResponseContentType": content_type,
        }
        return await self._signed("get_object", parameters, seconds)

    def every_object(self) -> Iterator[StoredObject]:
        """All objects of the bucket. It blocks, so it is for commands."""
        after = ""
        while True:
            page = self._call(partial(self._page, after), absent=None)
            for entry in page.get("Contents", ()) if page else ():
                yield StoredObject(entry["Key"], entry["Size"], entry["LastModified"])
                after = entry["Key"]
            if not page or not page["IsTruncated"]:
                return

    def remove(self, key: str) -> None:
        """Delete an object, as `delete` does. It blocks, so it is for commands."""
        self._call(lambda client: client.delete_object(Bucket=self._bucket, Key=key), absent=None)

    def _page(self, after: str, client: S3Client) -> ListObjectsV2OutputTypeDef:
        return client.list_objects_v2(Bucket=self._bucket, StartAfter=after)

    async def _signed(self, operation: str, parameters: dict[str, Any], seconds: int) -> str:
        # The signature covers the host, so links for browsers must be signed for the host that browsers use.
        endpoint = self._settings.s3_public_endpoint_url or self._settings.s3_endpoint_url

        def sign() -> str:
            return self._required(endpoint).generate_presigned_url(operation, Params=parameters, ExpiresIn=seconds)

        return await self._in_thread(sign)

    def _required(self, endpoint: str) -> S3Client:
        """The client for this endpoint. It is made when it is first needed."""
        if not self._bucket:
            raise AppError(Code.SERVICE_UNAVAILABLE, "This service has no store for attachments: S3_BUCKET is not set")
        with self._making:
            if endpoint not in self._clients:
                self._clients[endpoint] = _s3().client(self._settings, endpoint, THREADS)
            return self._clients[endpoint]

    async def _chunks(self, body: StreamingBody) -> AsyncGenerator[bytes]:
        try:
            while chunk := await self._in_thread(lambda: body.read(CHUNK)):
                yield chunk
        finally:
            body.close()

    async def _do(self, work: Callable[[S3Client], T], *, absent: T | None = None) -> T | None:
        with tracer.start_as_current_span(f"s3.{work.__name__}"), CALLS.labels(work.__name__).time():
            return await self._in_thread(lambda: self._call(work, absent=absent))

    def _call(self, work: Callable[[S3Client], T], *, absent: T | None) -> T | None:
        client = self._required(self._settings.s3_endpoint_url)
        try:
            return work(client)
        except Exception as error:
            reason = _s3().refusal(error)
            if reason is None:
                raise
            if reason in ABSENT:
                return absent
            FAILURES.labels(reason).inc()
            log.warning("the object store refused a call", reason=reason)
            raise AppError(*REFUSED) from error

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _s3() -> Any:
    # Inside the function, because boto3 takes 25 MB: a worker that moves no files does not load it.
    from app.storage import s3

    return s3
