-- What wrk measured, as JSON. No request or response hook: they would cost wrk its speed.
function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format(
      '\n{"seconds": %f, "count": %d, "p50_us": %d, "p99_us": %d, "max_us": %d, ' ..
      '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
      summary.duration / 1e6, summary.requests, latency:percentile(50), latency:percentile(99),
      latency.max, e.connect, e.read, e.write, e.status, e.timeout))
end
