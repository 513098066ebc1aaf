package lambdatest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

const (
	runtimeVersion   = "/2018-06-01/runtime"
	extensionVersion = "/2020-01-01/extension"

	headerRequestID    = "Lambda-Runtime-Aws-Request-Id"
	headerDeadline     = "Lambda-Runtime-Deadline-Ms"
	headerTrace        = "Lambda-Runtime-Trace-Id"
	headerARN          = "Lambda-Runtime-Invoked-Function-Arn"
	headerErrorType    = "Lambda-Runtime-Function-Error-Type"    // also a trailer
	headerErrorBody    = "Lambda-Runtime-Function-Error-Body"    // a trailer
	headerResponseMode = "Lambda-Runtime-Function-Response-Mode" // streaming, or absent

	// streamedType is the content type of answers that a function URL or API Gateway streams to its client.
	streamedType = "application/vnd.awslambda.http-integration-response"

	// maxResponse limits a buffered answer, maxStreamed a streamed one: the pages "Lambda quotas" and
	// "Response streaming for Lambda functions" of the AWS Lambda Developer Guide. The 100 bytes are the
	// Runtime Interface Emulator's.
	maxResponse = 6<<20 + 100
	maxStreamed = 200 << 20

	// firstBytes of an event are sent on their own: they fit in any socket's buffer, so a poller that is frozen has
	// the beginning of its event when it goes on, however large the event is.
	firstBytes = 1 << 10
)

// runtimeAPI serves the Lambda Runtime API and Extensions API of one environment, on loopback.
type runtimeAPI struct {
	cfg    Config
	queue  *queue
	addr   string
	server *http.Server
	served chan struct{}  // closed when the listener's goroutine is over
	conns  sync.WaitGroup // the goroutines of the connections
}

func serveRuntimeAPI(cfg Config, q *queue) (*runtimeAPI, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("lambdatest: runtime API: %w", err)
	}
	a := &runtimeAPI{cfg: cfg, queue: q, addr: ln.Addr().String(), served: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc(runtimeVersion+"/invocation/next", only(http.MethodGet, a.next))
	mux.HandleFunc(runtimeVersion+"/invocation/{id}/response", only(http.MethodPost, a.response))
	mux.HandleFunc(runtimeVersion+"/invocation/{id}/error", only(http.MethodPost, a.failure))
	mux.HandleFunc(runtimeVersion+"/init/error", only(http.MethodPost, a.initError))
	mux.HandleFunc(extensionVersion+"/register", only(http.MethodPost, a.register))
	mux.HandleFunc(extensionVersion+"/event/next", only(http.MethodGet, a.extensionNext))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "NotFound", "No such resource: "+r.URL.Path)
	})
	// Without timeouts: the connections of a frozen process have to stay.
	a.server = &http.Server{
		Handler: mux,
		// The cause of an error, for X-Ray, comes in a header of up to 1 MB.
		MaxHeaderBytes: 2 << 20,
		ErrorLog:       log.New(io.Discard, "", 0),
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				a.conns.Add(1)
			case http.StateClosed:
				a.conns.Done()
			}
		},
	}
	go func() {
		defer close(a.served)
		_ = a.server.Serve(ln)
	}()
	return a, nil
}

// close ends the listener and all connections, and waits for their goroutines.
func (a *runtimeAPI) close() {
	_ = a.server.Close()
	<-a.served
	a.conns.Wait()
}

// next answers a poll when there is an event for it.
func (a *runtimeAPI) next(w http.ResponseWriter, r *http.Request) {
	p, err := a.queue.poll()
	if err != nil {
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "Every invocation polled for is still to be answered")
		return
	}
	defer p.handedOver()
	select {
	case inv := <-p.event:
		if err := a.deliver(w, inv, p); err != nil {
			a.queue.undeliver(inv)
		}
	case <-r.Context().Done():
		a.queue.unpoll(p)
	}
}

func (a *runtimeAPI) deliver(w http.ResponseWriter, inv *invocation, p *poll) error {
	h := w.Header()
	h.Set(headerRequestID, inv.id)
	h.Set(headerDeadline, strconv.FormatInt(a.queue.deadline(inv).UnixMilli(), 10))
	h.Set(headerARN, a.cfg.arn())
	if inv.trace != "" {
		h.Set(headerTrace, inv.trace)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(inv.payload)))
	first := min(len(inv.payload), firstBytes)
	if _, err := w.Write(inv.payload[:first]); err != nil {
		return err
	}
	if err := http.NewResponseController(w).Flush(); err != nil {
		return err
	}
	p.handedOver()
	_, err := w.Write(inv.payload[first:])
	return err
}

// response takes the answer of a handler that succeeded.
func (a *runtimeAPI) response(w http.ResponseWriter, r *http.Request) {
	limit := int64(maxResponse)
	switch mode := strings.ToLower(r.Header.Get(headerResponseMode)); {
	case mode == "streaming", mode == "" && r.Header.Get("Content-Type") == streamedType:
		limit = maxStreamed
	case mode != "" && mode != "buffered":
		refuse(w, http.StatusBadRequest, "InvalidFunctionResponseMode", "Invalid function response mode")
		return
	}
	a.answer(w, r, limit, func(body []byte) *Result {
		res := &Result{Payload: body, ContentType: r.Header.Get("Content-Type")}
		// What broke off after it had begun says so in its trailers.
		if r.Trailer.Get(headerErrorType) != "" || r.Trailer.Get(headerErrorBody) != "" {
			doc, err := base64.StdEncoding.DecodeString(r.Trailer.Get(headerErrorBody))
			if err != nil {
				doc = []byte(r.Trailer.Get(headerErrorBody))
			}
			res.Err = parseFunctionError(doc, r.Trailer.Get(headerErrorType))
		}
		return res
	})
}

// failure takes the error of a handler that failed.
func (a *runtimeAPI) failure(w http.ResponseWriter, r *http.Request) {
	a.answer(w, r, maxResponse, func(body []byte) *Result {
		return &Result{
			Payload:     body,
			ContentType: r.Header.Get("Content-Type"),
			Err:         parseFunctionError(body, r.Header.Get(headerErrorType)),
		}
	})
}

// answer reads the body of an answer, within limit, and completes its invocation with what result makes of it.
func (a *runtimeAPI) answer(w http.ResponseWriter, r *http.Request, limit int64, result func(body []byte) *Result) {
	inv, err := a.queue.begin(r.PathValue("id"))
	switch {
	case errors.Is(err, errUnknownID):
		refuse(w, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
		return
	case err != nil:
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "The invocation was answered already")
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	switch {
	case err != nil:
		a.queue.abort(inv)
		refuse(w, http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request detected as truncated")
	case int64(len(body)) > limit:
		// A client that is still sending may never read the refusal, so it gets rid of its body first.
		_, _ = io.Copy(io.Discard, r.Body)
		msg := fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", limit)
		tooLarge := &FunctionError{Type: "Function.ResponseSizeTooLarge", Message: msg}
		doc, _ := json.Marshal(tooLarge) // three strings
		a.queue.finish(inv, &Result{Payload: doc, ContentType: "application/json", Err: tooLarge})
		refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge",
			fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", limit))
	default:
		a.queue.finish(inv, result(body))
		accept(w)
	}
}

// initError takes the error of an initialization that failed.
func (a *runtimeAPI) initError(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxResponse))
	if err != nil {
		refuse(w, http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request detected as truncated")
		return
	}
	if err := a.queue.failInit(parseFunctionError(body, r.Header.Get(headerErrorType))); err != nil {
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "Init is over")
		return
	}
	accept(w)
}

// parseFunctionError reads an error document. The type in the header stands in for one the document lacks, and a
// document that is not JSON is taken as the message.
func parseFunctionError(doc []byte, headerType string) *FunctionError {
	e := new(FunctionError)
	if err := json.Unmarshal(doc, e); err != nil {
		e = &FunctionError{Message: string(doc)}
	}
	if e.Type == "" {
		e.Type = headerType
	}
	return e
}

// only admits one method.
func only(method string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method {
			w.Header().Set("Allow", method)
			refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", r.Method+" is not allowed here")
			return
		}
		h(w, r)
	}
}

func accept(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"status":"OK"}`)
}

func refuse(w http.ResponseWriter, status int, errorType, message string) {
	doc, _ := json.Marshal(map[string]string{"errorType": errorType, "errorMessage": message}) // only strings
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(doc)
}
