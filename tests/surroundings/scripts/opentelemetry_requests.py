"""instrumented before the first use and after: one span for each request"""

from opentelemetry.instrumentation.requests import RequestsInstrumentor
from spans import one_for_each_request, provider

from upstash_state import reset_client

RequestsInstrumentor().instrument(tracer_provider=provider)
one_for_each_request()
RequestsInstrumentor().uninstrument()
RequestsInstrumentor().instrument(tracer_provider=provider)
one_for_each_request()
reset_client()
one_for_each_request()
