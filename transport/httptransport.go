package transport

import (
	"math"
	"net/http"
	"time"
)

// NewHTTPTransport returns an [http.Transport] tuned with cfg, for code that asserts that type. It pools in
// the way of net/http, so the settings that only a [Transport] can honour have no effect: MaxConns,
// MaxStreamsPerConn, MaxWaitersPerHost, AcquireTimeout, TrustIdle, MaxConnLifetime, DialDelay, DrainBytes, DrainTime, LeakStacks,
// LeakAfter and Logger. VerifyAfter and VerifyTimeout become the interval and the timeout of HTTP/2 PINGs.
//
// It resumes TLS sessions only if cfg.TLS has a ClientSessionCache: code that clones an http.Transport and sets a certificate of its
// own would go on as the one whose sessions are in the cache. (See docs/security.md.)
//
// It returns every fault of cfg at once, as [New] does.
func NewHTTPTransport(cfg Config) (*http.Transport, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &http.Transport{
		Proxy:                  cfg.Proxy,
		DialContext:            timeoutDialer(cfg.DialTimeout, cfg.DialContext),
		TLSClientConfig:        cfg.TLS.Clone(),
		TLSHandshakeTimeout:    limit(cfg.TLSHandshakeTimeout, 0),
		DisableCompression:     cfg.DisableCompression,
		MaxIdleConns:           limit(cfg.MaxIdleConns, 0),
		MaxIdleConnsPerHost:    limit(cfg.MaxIdleConnsPerHost, math.MaxInt),
		MaxConnsPerHost:        limit(cfg.MaxConnsPerHost, 0),
		IdleConnTimeout:        limit(cfg.IdleTimeout, 0),
		ResponseHeaderTimeout:  limit(cfg.ResponseHeaderTimeout, 0),
		ExpectContinueTimeout:  limit(cfg.ExpectContinueTimeout, 0),
		MaxResponseHeaderBytes: limit(cfg.MaxResponseHeaderBytes, math.MaxInt64),
		Protocols:              cfg.Protocols,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: limit(cfg.VerifyAfter, 0),
			PingTimeout:     limit(cfg.VerifyTimeout, 15*time.Second),
		},
	}, nil
}
