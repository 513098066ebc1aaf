package lambdatest

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzRuntimeAPI has a process answer an invocation: where it posts to, with which headers, body and trailers.
func FuzzRuntimeAPI(f *testing.F) {
	const doc = `{"errorType":"Boom","errorMessage":"it broke","stackTrace":[{"path":"a.go","line":1,"label":"f"}]}`
	f.Add("response", "", "application/json", `{"ok":true}`, "", "")
	f.Add("response", "streaming", streamedType, "\x00\x00part", "Boom", base64.StdEncoding.EncodeToString([]byte(doc)))
	f.Add("response", "Buffered", "", "", "", "not base64")
	f.Add("response", "sideways", "text/plain", "x", "", "")
	f.Add("error", "", "application/json", doc, "Other", "")
	f.Add("error", "", "", "no JSON", "Runtime.Unknown", "")
	f.Add("error", "", "", `{"errorType":5}`, "", "")
	f.Add("error", "", "", "null", "", "")

	cfg, err := Config{Path: "bootstrap"}.withDefaults()
	if err != nil {
		f.Fatal(err)
	}
	api, err := serveRuntimeAPI(cfg, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(api.close)

	f.Fuzz(func(t *testing.T, resource, mode, contentType, body, errorType, errorBody string) {
		q := newQueue(cfg, func(error) { t.Error("the environment was killed") })
		api.queue = q
		defer q.close(errors.New("over"))
		inv := &invocation{id: newUUID(), payload: []byte("{}"), done: make(chan struct{})}
		if err := q.add(inv); err != nil {
			t.Fatal(err)
		}
		if _, err := q.poll(); err != nil {
			t.Fatal(err)
		}
		post := func(resource string) *httptest.ResponseRecorder {
			req := httptest.NewRequest(http.MethodPost, runtimeVersion+"/invocation/"+inv.id+"/", strings.NewReader(body))
			req.URL.Path += resource
			req.Header.Set(headerResponseMode, mode)
			req.Header.Set("Content-Type", contentType)
			req.Header.Set(headerErrorType, errorType)
			req.Trailer = http.Header{headerErrorType: {errorType}, headerErrorBody: {errorBody}}
			w := httptest.NewRecorder()
			api.server.Handler.ServeHTTP(w, req)
			return w
		}
		w := post(resource)
		mode = "" // one that is wrong would be refused first
		select {
		case <-inv.done:
		default:
			if w.Code == http.StatusAccepted {
				t.Fatalf("%s was accepted, and the invocation goes on", resource)
			}
			// Whatever was refused, the real answer still counts.
			if w := post("response"); w.Code != http.StatusAccepted {
				t.Fatalf("the answer after a refused one: %d %s", w.Code, w.Body)
			}
			return
		}
		if w.Code != http.StatusAccepted {
			t.Fatalf("%s ended the invocation with %d %s", resource, w.Code, w.Body)
		}
		res := inv.result
		if inv.err != nil || res == nil || string(res.Payload) != body || res.RequestID != inv.id {
			t.Fatalf("result %+v, %v", res, inv.err)
		}
		failed := resource == "error" || errorType != "" || errorBody != ""
		if (res.Err != nil) != failed {
			t.Fatalf("error %v, want one: %v", res.Err, failed)
		}
		if res.Err != nil && res.Err.Type == "" && errorType != "" {
			t.Fatalf("an error without the type that the header has: %+v", res.Err)
		}
		if w := post("response"); w.Code != http.StatusForbidden {
			t.Fatalf("a second answer: %d", w.Code)
		}
	})
}

// FuzzInitError has a process report that its initialization failed, or register an extension.
func FuzzInitError(f *testing.F) {
	f.Add("/2018-06-01/runtime/init/error", `{"errorType":"Runtime.NoConfig","errorMessage":"no configuration"}`, "Other", "")
	f.Add("/2018-06-01/runtime/init/error", "no JSON", "", "")
	f.Add("/2020-01-01/extension/register", `{"events":[]}`, "", "name")
	f.Add("/2020-01-01/extension/register", `{"events":["INVOKE"]}`, "", "name")
	f.Add("/2020-01-01/extension/register", `{"events":{}}`, "", "name")
	f.Add("/elsewhere", "", "", "")

	cfg, err := Config{Path: "bootstrap"}.withDefaults()
	if err != nil {
		f.Fatal(err)
	}
	api, err := serveRuntimeAPI(cfg, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(api.close)

	f.Fuzz(func(t *testing.T, path, body, errorType, name string) {
		q := newQueue(cfg, func(error) { t.Error("the environment was killed") })
		api.queue = q
		defer q.close(errors.New("over"))
		if strings.HasSuffix(path, "/next") {
			return // which waits
		}
		req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		req.URL.Path = path
		req.Header.Set(headerErrorType, errorType)
		req.Header.Set(headerExtensionName, name)
		w := httptest.NewRecorder()
		api.server.Handler.ServeHTTP(w, req)
		failure, _ := q.initFailure()
		switch {
		case (failure != nil) != (w.Code == http.StatusAccepted):
			t.Fatalf("%s got %d, and init has the error %v", path, w.Code, failure)
		case failure != nil && failure.Type == "" && errorType != "":
			t.Fatalf("an error without the type that the header has: %+v", failure)
		case q.hasExtension() != (w.Header().Get(headerExtensionID) != ""):
			t.Fatalf("%s got %d, identifier %q", path, w.Code, w.Header().Get(headerExtensionID))
		}
	})
}
