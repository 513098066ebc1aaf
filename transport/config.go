package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"time"
)

// Disabled turns a limit or a timeout off. Zero always means the documented default.
const Disabled = -1

// The defaults of [Config].
const (
	DefaultMaxConnsPerHost = 64
	DefaultMaxConns        = 256

	DefaultIdleTimeout     = 5 * time.Minute
	DefaultVerifyAfter     = 10 * time.Second
	DefaultTrustIdle       = 2 * time.Minute
	DefaultVerifyTimeout   = 1 * time.Second
	DefaultMaxConnLifetime = 15 * time.Minute

	DefaultDialDelay              = 250 * time.Millisecond
	DefaultDialTimeout            = 5 * time.Second
	DefaultTLSHandshakeTimeout    = 5 * time.Second
	DefaultResponseHeaderTimeout  = 30 * time.Second
	DefaultExpectContinueTimeout  = 1 * time.Second
	DefaultDrainBytes             = 64 << 10
	DefaultDrainTime              = 50 * time.Millisecond
	DefaultMaxResponseHeaderBytes = 1 << 20
)

// Config holds the settings of a [Transport]. The zero value is ready to use.
//
// One rule holds for every number: zero means the default that the field's comment names, [Disabled] turns
// the limit or the timeout off, and any other negative value is an error of [New].
type Config struct {
	// MaxConnsPerHost limits the connections to one origin: idle, in use and being dialled together. Plain http through a forward
	// proxy has one for all hosts, the proxy. An HTTP/2 connection whose server has sent GOAWAY does not count, however long its last
	// streams take. Requests beyond the limit wait, first come, first served.
	// Zero means DefaultMaxConnsPerHost (64). Disabled means no limit but MaxConns.
	MaxConnsPerHost int

	// MaxConns limits the connections to all origins together. For a request that needs a connection beyond it, a dial that nobody
	// waits for any more is ended, or the connection that has been idle for longest closed; or it waits, first come, first served.
	// Zero means DefaultMaxConns (256), well below the 1,024 file descriptors of a Lambda environment, or MaxConnsPerHost if
	// that is more. Disabled means no limit.
	MaxConns int

	// MaxIdleConnsPerHost limits the idle connections kept for one origin.
	// Zero means the value of MaxConnsPerHost: what was dialled once is kept. Disabled means no limit.
	MaxIdleConnsPerHost int

	// MaxIdleConns limits the idle connections kept for all origins together.
	// Zero means the value of MaxConns. Disabled means no limit.
	MaxIdleConns int

	// MaxStreamsPerConn limits the requests at once on an HTTP/2 connection, beside what its server allows.
	// Zero and Disabled mean that the server alone decides.
	MaxStreamsPerConn int

	// MaxWaitersPerHost limits the requests to one origin that wait for a connection to be given back, because
	// no more may be made. A request beyond it fails at once with ErrPoolExhausted. Those that wait for a dial
	// are not counted. Zero and Disabled mean no limit.
	MaxWaitersPerHost int

	// AcquireTimeout limits how long a request waits for a connection, dialling included. It then fails with ErrPoolExhausted if
	// it waited for others to give back what the limits allow, and with another timeout if a connection was on its way.
	// Zero and Disabled mean that the request's context alone limits the wait.
	AcquireTimeout time.Duration

	// IdleTimeout is how long a connection may be idle and still be used. It is checked when a connection
	// is taken, on the wall clock and on the monotonic clock, whichever says more.
	// Zero means DefaultIdleTimeout (5m), which is under the 350 s of NAT gateways and Network Load
	// Balancers. Disabled means no limit.
	IdleTimeout time.Duration

	// VerifyAfter is how long nothing may have come on an HTTP/2 connection before a PING must prove it alive ahead of
	// the next request. Zero means DefaultVerifyAfter (10s). Disabled means never to ask.
	VerifyAfter time.Duration

	// TrustIdle is how long nothing may have come on an HTTP/1.1 connection, which has no PING, for it to carry a request that may
	// not be sent twice. After that it serves only requests that may be replayed.
	// Zero means DefaultTrustIdle (2m). Disabled means to trust it for as long as it may be idle.
	TrustIdle time.Duration

	// VerifyTimeout is the most that proving a connection alive may take. The connection's own round-trip
	// time usually ends the wait for it earlier. Zero means DefaultVerifyTimeout (1s). Disabled means that
	// the round-trip time alone decides.
	VerifyTimeout time.Duration

	// MaxConnLifetime is how long a connection may exist. Each one's lifetime is shortened by a random
	// share of up to 10 %, so that a fleet does not reconnect at once; requests under way are finished.
	// Zero means DefaultMaxConnLifetime (15m), so that a change of DNS is noticed. Disabled means no limit.
	MaxConnLifetime time.Duration

	// DialDelay is how long a dial may take, TLS handshake included, until another one is begun beside it: for the next request that
	// waits, or else, once, for the same. What comes first serves whoever waits first.
	// Zero means DefaultDialDelay (250ms), the Connection Attempt Delay of RFC 8305. Disabled means to wait for
	// the first one.
	DialDelay time.Duration

	// DialTimeout limits establishing a TCP connection, name resolution and all that a proxy has a part in
	// included: its answer, and the TLS handshake with an HTTPS proxy.
	// Zero means DefaultDialTimeout (5s). Disabled means no limit.
	DialTimeout time.Duration

	// TLSHandshakeTimeout limits one TLS handshake.
	// Zero means DefaultTLSHandshakeTimeout (5s). Disabled means no limit.
	TLSHandshakeTimeout time.Duration

	// ResponseHeaderTimeout limits the wait for the response's header after the request was written.
	// Zero means DefaultResponseHeaderTimeout (30s). Disabled means no limit.
	ResponseHeaderTimeout time.Duration

	// ExpectContinueTimeout limits the wait for "100 Continue" of a request with "Expect: 100-continue";
	// the body is sent when it has passed. Zero means DefaultExpectContinueTimeout (1s). Disabled means
	// that the body is sent at once.
	ExpectContinueTimeout time.Duration

	// DrainBytes is how much of an HTTP/1.1 response body that was closed early is read, in bytes, so that
	// its connection can be kept. Zero means DefaultDrainBytes (64 KiB, 65536). Disabled means not to
	// drain: the connection is closed.
	DrainBytes int64

	// DrainTime is the longest that such reading, and with it Body.Close, may take.
	// Zero means DefaultDrainTime (50ms). Disabled means not to drain: the connection is closed.
	DrainTime time.Duration

	// MaxResponseHeaderBytes limits a response's header, in bytes.
	// Zero means DefaultMaxResponseHeaderBytes (1 MiB, 1048576). Disabled means no limit.
	MaxResponseHeaderBytes int64

	// TLS is the configuration of TLS connections. It is cloned. TLS 1.2 is the lowest version used, and NextProtos
	// is set from Protocols. Nil means the defaults of crypto/tls with these changes.
	//
	// TLS sessions are resumed, which saves two thirds of the CPU of a reconnect. The Transport has a cache of its own for
	// them, which Reset empties, unless ClientSessionCache is set: that one is used then, and is the caller's. There is none if
	// SessionTicketsDisabled is set; nor with GetClientCertificate or VerifyPeerCertificate, because a resumed handshake calls
	// neither. VerifyConnection is called for each.
	TLS *tls.Config

	// Proxy returns the proxy for a request, as for [http.Transport]: http, https, socks5 and socks5h.
	// Nil means [http.ProxyFromEnvironment].
	Proxy func(*http.Request) (*url.URL, error)

	// DialContext opens TCP connections, to origins and to proxies. Its context carries the values of the
	// request that caused the dial, but not its cancellation: the connection belongs to the pool.
	// Nil means a [net.Dialer].
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)

	// Protocols selects the protocols, as for [http.Transport]. Unencrypted HTTP/2 is spoken on http URLs
	// if the set has UnencryptedHTTP2 and lacks HTTP1.
	// Nil means HTTP/1.1, and HTTP/2 over TLS.
	Protocols *http.Protocols

	// DisableCompression stops the pool from asking for gzip and decoding it on its own.
	DisableCompression bool

	// LeakStacks makes the log line for a response body that was never closed carry the stack of the
	// request. It costs a few microseconds a request. By default no stack is kept.
	LeakStacks bool

	// LeakAfter is how long a request may have a connection before that is logged as a warning: its body may have been
	// forgotten. With LeakStacks the line has the stack that took it.
	// Zero and Disabled mean that nothing is logged.
	LeakAfter time.Duration

	// Logger receives what the pool has to say beside the errors it returns: leaked bodies, and those that LeakAfter is for, as
	// warnings, and connections made and closed at debug level. Nil means [slog.Default] for warnings and nothing else.
	Logger *slog.Logger
}

// defaults has the value of every number that is zero. MaxIdleConnsPerHost and MaxIdleConns follow the others.
var defaults = Config{
	MaxConnsPerHost:        DefaultMaxConnsPerHost,
	MaxConns:               DefaultMaxConns,
	MaxWaitersPerHost:      Disabled,
	AcquireTimeout:         Disabled,
	IdleTimeout:            DefaultIdleTimeout,
	VerifyAfter:            DefaultVerifyAfter,
	TrustIdle:              DefaultTrustIdle,
	VerifyTimeout:          DefaultVerifyTimeout,
	MaxConnLifetime:        DefaultMaxConnLifetime,
	LeakAfter:              Disabled,
	MaxStreamsPerConn:      Disabled,
	DialDelay:              DefaultDialDelay,
	DialTimeout:            DefaultDialTimeout,
	TLSHandshakeTimeout:    DefaultTLSHandshakeTimeout,
	ResponseHeaderTimeout:  DefaultResponseHeaderTimeout,
	ExpectContinueTimeout:  DefaultExpectContinueTimeout,
	DrainBytes:             DefaultDrainBytes,
	DrainTime:              DefaultDrainTime,
	MaxResponseHeaderBytes: DefaultMaxResponseHeaderBytes,
}

// Validate returns every fault of cfg at once, joined with [errors.Join], or nil: what [New] would refuse.
func (cfg Config) Validate() error {
	_, err := cfg.withDefaults()
	return err
}

// withDefaults returns a copy of cfg in which every field has the value that is in force, and all faults of
// cfg joined.
func (cfg Config) withDefaults() (Config, error) {
	var errs []error
	fault := func(field string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("transport: Config.%s is %v: want %s", field, value, allowed))
	}
	def := defaults
	def.MaxIdleConnsPerHost = cmp.Or(cfg.MaxConnsPerHost, DefaultMaxConnsPerHost)
	def.MaxConns = max(DefaultMaxConns, cfg.MaxConnsPerHost)
	def.MaxIdleConns = cmp.Or(cfg.MaxConns, def.MaxConns)
	v, d := reflect.ValueOf(&cfg).Elem(), reflect.ValueOf(&def).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		if !f.CanInt() {
			continue
		}
		given := f.Int()
		if given == 0 {
			f.SetInt(d.Field(i).Int())
		}
		if given < Disabled {
			fault(v.Type().Field(i).Name, f.Interface(), "a positive value, 0 for the default, or Disabled (-1)")
		}
	}

	if cfg.Protocols == nil {
		cfg.Protocols = new(http.Protocols)
		cfg.Protocols.SetHTTP1(true)
		cfg.Protocols.SetHTTP2(true)
	} else {
		p := *cfg.Protocols
		cfg.Protocols = &p
		if !p.HTTP1() && !p.HTTP2() && !p.UnencryptedHTTP2() {
			fault("Protocols", p, "at least one protocol, or nil for HTTP/1.1 and HTTP/2")
		}
	}

	if cfg.TLS == nil {
		cfg.TLS = new(tls.Config)
	} else {
		cfg.TLS = cfg.TLS.Clone()
		cfg.TLS.Certificates = slices.Clone(cfg.TLS.Certificates)
		if v := cfg.TLS.MinVersion; v != 0 && (v < tls.VersionTLS12 || v > tls.VersionTLS13) {
			fault("TLS.MinVersion", tls.VersionName(v), "TLS 1.2, TLS 1.3, or 0 for TLS 1.2")
		}
		if v := cfg.TLS.MaxVersion; v != 0 && v < max(tls.VersionTLS12, cfg.TLS.MinVersion) {
			fault("TLS.MaxVersion", tls.VersionName(v), "TLS 1.2 or newer, not below MinVersion, or 0 for the newest")
		}
	}
	cfg.TLS.MinVersion = max(cfg.TLS.MinVersion, tls.VersionTLS12)
	cfg.TLS.NextProtos = nextProtos(cfg.TLS.NextProtos, *cfg.Protocols)

	if cfg.Proxy == nil {
		cfg.Proxy = http.ProxyFromEnvironment
	}
	if cfg.DialContext == nil {
		cfg.DialContext = new(net.Dialer).DialContext
	}
	return cfg, errors.Join(errs...)
}

// nextProtos returns the ALPN protocols for p, most preferred first, followed by the caller's own.
func nextProtos(own []string, p http.Protocols) []string {
	var protos []string
	if p.HTTP2() {
		protos = append(protos, "h2")
	}
	if p.HTTP1() {
		protos = append(protos, "http/1.1")
	}
	for _, s := range own {
		if s != "h2" && s != "http/1.1" && !slices.Contains(protos, s) {
			protos = append(protos, s)
		}
	}
	return protos
}

// clone returns a copy of cfg that shares nothing a caller could change.
func (cfg Config) clone() Config {
	if cfg.TLS != nil {
		cfg.TLS = cfg.TLS.Clone()
		cfg.TLS.NextProtos = slices.Clone(cfg.TLS.NextProtos)
		cfg.TLS.Certificates = slices.Clone(cfg.TLS.Certificates)
	}
	if cfg.Protocols != nil {
		p := *cfg.Protocols
		cfg.Protocols = &p
	}
	return cfg
}

// limit returns v, or unlimited if v is Disabled.
func limit[T int | int64 | time.Duration](v, unlimited T) T {
	if v < 0 {
		return unlimited
	}
	return v
}
