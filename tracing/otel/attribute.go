package otel

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/thawhttp/thaw/tracing"
)

// methodsVariable is the environment variable that the convention has for the methods that are known, separated by commas.
const methodsVariable = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS"

func knownMethods() map[string]bool {
	list := os.Getenv(methodsVariable)
	if list == "" {
		list = "CONNECT,DELETE,GET,HEAD,OPTIONS,PATCH,POST,PUT,QUERY,TRACE"
	}
	known := make(map[string]bool)
	for method := range strings.SplitSeq(list, ",") {
		if method = strings.TrimSpace(method); method != "" {
			known[method] = true
		}
	}
	return known
}

// request adds what spans and metrics of requests have in common.
func (t *tracer) request(attrs []attribute.KeyValue, method, origin string) []attribute.KeyValue {
	known := semconv.HTTPRequestMethodOther
	if t.known[method] {
		known = semconv.HTTPRequestMethodKey.String(method)
	}
	return appendServer(append(attrs, known), origin)
}

// otherServer is the server.address of what is measured of servers that were not reached. Who chooses the hosts that are tried,
// by a redirect for one, would choose else how many series of metrics there are.
const otherServer = "_OTHER"

// appendServer adds the server of an origin, "https://host:port".
func appendServer(attrs []attribute.KeyValue, origin string) []attribute.KeyValue {
	if origin == otherServer {
		return append(attrs, semconv.ServerAddress(otherServer))
	}
	_, address, _ := strings.Cut(origin, "://")
	return appendAddress(attrs, address, semconv.ServerAddressKey, semconv.ServerPortKey)
}

// appendAddress adds a "host:port" in its two parts, and nothing if it is something else, such as the name of a pipe.
func appendAddress(attrs []attribute.KeyValue, address string, hostKey, portKey attribute.Key) []attribute.KeyValue {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return attrs
	}
	attrs = append(attrs, hostKey.String(host))
	if n, err := strconv.Atoi(port); err == nil {
		attrs = append(attrs, portKey.Int(n))
	}
	return attrs
}

// outcome is what metrics tell exchanges apart by. Before the end, only the first two are known. The origin is otherServer unless
// it was reached.
type outcome struct {
	method, origin string
	status         int
	version        string // of HTTP
	failure        string // the error.type, or nothing after a success
}

func outcomeOf(e tracing.Exchange) outcome {
	o := outcome{method: e.Method, origin: otherServer, status: e.Status, version: cmp.Or(version(e.Proto), version(e.Conn.Protocol))}
	switch {
	case e.Err != nil:
		o.failure = classOf(e.Err, e.Failed)
	case e.Status >= http.StatusBadRequest:
		o.failure = strconv.Itoa(e.Status)
	}
	return o
}

// reached reports whether an exchange got to its server.
func reached(e tracing.Exchange) bool { return e.Status != 0 || e.Conn != (tracing.Conn{}) }

// append adds what both a span and the metric say of the end of an exchange.
func (o outcome) append(attrs []attribute.KeyValue) []attribute.KeyValue {
	if o.status != 0 {
		attrs = append(attrs, semconv.HTTPResponseStatusCode(o.status))
	}
	if o.version != "" {
		attrs = append(attrs, semconv.NetworkProtocolVersion(o.version))
	}
	if o.failure != "" {
		attrs = append(attrs, semconv.ErrorTypeKey.String(o.failure))
	}
	return attrs
}

// version returns the version of HTTP, as a response or a connection names it.
func version(protocol string) string {
	switch protocol {
	case "HTTP/1.0":
		return "1.0"
	case "HTTP/1.1", "http/1.1":
		return "1.1"
	case "HTTP/2.0", "h2":
		return "2"
	case "HTTP/3.0":
		return "3"
	default:
		return ""
	}
}

// classOf returns the error.type of an error that happened in a phase. What took too long may also say that it was
// cancelled, since that is how a timeout ends things.
func classOf(err error, phase string) string {
	timeout, ok := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded), ok && timeout.Timeout():
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, tracing.ErrLeaked):
		return "leaked"
	default:
		return cmp.Or(phase, semconv.ErrorTypeOther.Value.AsString())
	}
}
