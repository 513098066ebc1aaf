package transport

import (
	"crypto/tls"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// numbers are the fields of Config that are limits or timeouts.
func numbers(cfg *Config) map[string]reflect.Value {
	fields := make(map[string]reflect.Value)
	v := reflect.ValueOf(cfg).Elem()
	for i := range v.NumField() {
		switch v.Field(i).Kind() {
		case reflect.Int, reflect.Int64:
			fields[v.Type().Field(i).Name] = v.Field(i)
		}
	}
	return fields
}

func TestEveryFaultOfAConfigIsNamedAtOnceWithItsValue(t *testing.T) {
	cfg := Config{
		Protocols: new(http.Protocols),
		TLS:       &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
	}
	n := int64(-2)
	want := make(map[string]string)
	for name, f := range numbers(&cfg) {
		f.SetInt(n)
		want["Config."+name+" is"] = fmt.Sprint(f.Interface())
		n--
	}
	want["Config.Protocols is"] = "{}"
	want["Config.TLS.MinVersion is"] = "TLS 1.0"
	want["Config.TLS.MaxVersion is"] = "TLS 1.1"
	check := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Fatalf("%s: no error", what)
		}
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok || len(joined.Unwrap()) != len(want) {
			t.Errorf("%s: want %d faults joined: %v", what, len(want), err)
		}
		lines := strings.Split(err.Error(), "\n")
		for field, value := range want {
			if !slices.ContainsFunc(lines, func(l string) bool {
				return strings.Contains(l, field+" "+value+": want ")
			}) {
				t.Errorf("%s: %s %s is not named: %v", what, field, value, err)
			}
		}
	}
	tr, err := New(cfg)
	check("New", err)
	if tr != nil {
		t.Error("New returned a Transport beside the error")
	}
	ht, err := NewHTTPTransport(cfg)
	check("NewHTTPTransport", err)
	if ht != nil {
		t.Error("NewHTTPTransport returned one beside the error")
	}
	if numbers(&cfg)["MaxConns"].Int() >= 0 || cfg.TLS.MinVersion != tls.VersionTLS10 {
		t.Error("the caller's Config was changed")
	}
}

func TestDisabledAndExtremesAreAccepted(t *testing.T) {
	for _, v := range []int64{Disabled, 1, math.MaxInt64} {
		var cfg Config
		for _, f := range numbers(&cfg) {
			f.SetInt(v)
		}
		tr, err := New(cfg)
		if err != nil {
			t.Errorf("all numbers %d: %v", v, err)
			continue
		}
		got := tr.Config()
		for name, f := range numbers(&got) {
			if f.Int() != v {
				t.Errorf("%s: %d in force, %d was asked for", name, f.Int(), v)
			}
		}
		tr.Close()
		if _, err := NewHTTPTransport(cfg); err != nil {
			t.Errorf("NewHTTPTransport, all numbers %d: %v", v, err)
		}
	}
}

// The comment of each field names its default: as a number, or as the constant with its value in parentheses.
func TestDefaultsAreWhatTheCommentsSay(t *testing.T) {
	tr, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	got := tr.Config()
	inForce := numbers(&got)

	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	comments := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == "Config" {
			for _, f := range spec.Type.(*ast.StructType).Fields.List {
				for _, name := range f.Names {
					comments[name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
				}
			}
		}
		return true
	})
	special := map[string]int64{"MaxIdleConnsPerHost": DefaultMaxConnsPerHost, "MaxIdleConns": DefaultMaxConns, "MaxWaitersPerHost": Disabled, "AcquireTimeout": Disabled, "LeakAfter": Disabled, "MaxStreamsPerConn": Disabled}
	for name, f := range inForce {
		doc := comments[name]
		if want, ok := special[name]; ok {
			if f.Int() != want {
				t.Errorf("%s: %d in force, want %d", name, f.Int(), want)
			}
			continue
		}
		_, rest, ok := strings.Cut(doc, "Zero means Default"+name+" (")
		value, _, ok2 := strings.Cut(rest, ")")
		if !ok || !ok2 {
			t.Errorf("%s: the comment does not name the default: %s", name, doc)
			continue
		}
		var want int64
		if d, isDuration := f.Interface().(time.Duration); isDuration {
			said, err := time.ParseDuration(value)
			if err != nil || said != d {
				t.Errorf("%s: the comment says %s, %v is in force", name, value, d)
			}
			continue
		}
		number := value[strings.LastIndex(value, " ")+1:]
		if _, err := fmt.Sscan(number, &want); err != nil || want != f.Int() {
			t.Errorf("%s: the comment says %s, %d is in force", name, value, f.Int())
		}
		if !strings.Contains(doc, "Disabled") {
			t.Errorf("%s: the comment does not say what Disabled means", name)
		}
	}
	if got.TLS.MinVersion != tls.VersionTLS12 || got.TLS.ClientSessionCache != nil || !slices.Equal(got.TLS.NextProtos, []string{"h2", "http/1.1"}) {
		t.Errorf("TLS: %x, cache %v, %v", got.TLS.MinVersion, got.TLS.ClientSessionCache, got.TLS.NextProtos)
	}
	if !got.Protocols.HTTP1() || !got.Protocols.HTTP2() || got.Protocols.UnencryptedHTTP2() {
		t.Errorf("Protocols: %v", got.Protocols)
	}
	if got.Proxy == nil || got.DialContext == nil {
		t.Error("no Proxy or no DialContext in force")
	}
}

func TestConfigIsCopiedBothWays(t *testing.T) {
	in := Config{TLS: &tls.Config{ServerName: "before"}, Protocols: new(http.Protocols)}
	in.Protocols.SetHTTP1(true)
	tr, err := New(in)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	in.TLS.ServerName = "after"
	in.Protocols.SetHTTP2(true)
	out := tr.Config()
	out.TLS.ServerName = "after"
	out.Protocols.SetHTTP2(true)
	out.TLS.NextProtos[0] = "changed"
	if now := tr.Config(); now.TLS.ServerName != "before" || now.Protocols.HTTP2() || !slices.Equal(now.TLS.NextProtos, []string{"http/1.1"}) {
		t.Errorf("changed from outside: %+v", now)
	}
}

func TestTLSSettingsOfTheCallerArePreserved(t *testing.T) {
	cache := tls.NewLRUClientSessionCache(1)
	for _, c := range []struct {
		name string
		in   *tls.Config
		ok   func(*tls.Config) bool
	}{
		{"a higher minimum", &tls.Config{MinVersion: tls.VersionTLS13}, func(c *tls.Config) bool { return c.MinVersion == tls.VersionTLS13 }},
		{"a session cache", &tls.Config{ClientSessionCache: cache}, func(c *tls.Config) bool { return c.ClientSessionCache == cache }},
		{"no session tickets", &tls.Config{SessionTicketsDisabled: true}, func(c *tls.Config) bool { return c.ClientSessionCache == nil }},
		{"protocols of its own", &tls.Config{NextProtos: []string{"acme", "http/1.1"}}, func(c *tls.Config) bool {
			return slices.Equal(c.NextProtos, []string{"h2", "http/1.1", "acme"})
		}},
	} {
		tr, err := New(Config{TLS: c.in})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !c.ok(tr.Config().TLS) {
			t.Errorf("%s: not preserved", c.name)
		}
		tr.Close()
	}
	if _, err := New(Config{TLS: &tls.Config{MinVersion: tls.VersionTLS13 + 1}}); err == nil || !strings.Contains(err.Error(), "TLS.MinVersion") {
		t.Errorf("a MinVersion that does not exist: error %v", err)
	}
	if _, err := New(Config{TLS: &tls.Config{MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS12}}); err == nil {
		t.Error("a maximum below the minimum is accepted")
	}
}

func TestMaxWaitersDisabledAndZeroMeanNoLimit(t *testing.T) {
	for _, n := range []int{0, Disabled} {
		s := serve(t, plain)
		p := newPool(t, plain, Config{MaxConnsPerHost: 1, MaxWaitersPerHost: n})
		open := s.gate("holder")
		defer open()
		done := make(chan error, 40)
		go func() { done <- p.send(s.request(t.Context(), "GET", "holder", noBody)) }()
		eventually(t, "the connection is in use", func() bool { return s.times("holder") == 1 })
		for range 39 {
			go func() { done <- p.send(s.request(t.Context(), "GET", "waiter", noBody)) }()
		}
		eventually(t, "all wait", func() bool { return p.Stats().Waiting == 39 })
		open()
		for range 40 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
}

func TestDisabledCapsAllowAnyNumber(t *testing.T) {
	s := serve(t, plain)
	p := newPool(t, plain, Config{MaxConnsPerHost: Disabled, MaxConns: Disabled, MaxIdleConns: Disabled, MaxIdleConnsPerHost: Disabled})
	p.fill(t, s, 70)
	if st := p.Stats(); st.Idle != 70 {
		t.Errorf("%+v", st.Origin)
	}
}

func TestDisabledDrainClosesTheConnection(t *testing.T) {
	for _, cfg := range []Config{{DrainBytes: Disabled}, {DrainTime: Disabled}} {
		s := serve(t, plain)
		p := newPool(t, plain, cfg)
		resp, err := p.RoundTrip(s.request(t.Context(), "GET", "x", noBody))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		p.settled(t)
		if st := p.Stats(); st.Open != 0 || st.Closed.Error != 1 {
			t.Errorf("%+v", st.Origin)
		}
	}
}
