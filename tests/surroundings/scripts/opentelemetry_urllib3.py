"""instrumented before the first use and after: one span for each request"""

from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from spans import one_for_each_request, provider

from upstash_state import reset_client

URLLib3Instrumentor().instrument(tracer_provider=provider)
one_for_each_request()
URLLib3Instrumentor().uninstrument()
URLLib3Instrumentor().instrument(tracer_provider=provider)
one_for_each_request()
reset_client()
one_for_each_request()
