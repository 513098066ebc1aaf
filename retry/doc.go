// Package retry sends a request again when that is safe and may help: an [http.RoundTripper] over another one.
//
// [New] puts it over a pool, and package client does so by default. What it does is said by a [Policy]:
//
//   - Only what may be processed twice is sent twice: a request that is idempotent (RFC 9110, section 9.2.2, or with an
//     Idempotency-Key header), or one that was certainly not processed. [DefaultDecide] has the rule, and docs/retry.md
//     a table of it.
//   - Only a body that can be had again from GetBody is sent again. A streamed one is passed through and never read into
//     memory.
//   - A wait, Retry-After included, that would not leave time for another attempt before the deadline of the request's
//     context is not begun.
//   - Retries have a budget for each origin. When a downstream is down for good, they stop.
//   - Whatever ends the retries, the caller gets the last answer with its body unread, or the last error.
//
// The first attempt goes straight through. Only if it is to be repeated, the loop of
// [github.com/hashicorp/go-retryablehttp] takes over: it counts the attempts, waits, and calls back; what may be sent
// again, when, and with what body is decided here. See loop.go for what of that package is not used, and why.
package retry
