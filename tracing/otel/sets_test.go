package otel

import (
	"fmt"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

func TestSetsOfAttributesAreKeptUpToALimit(t *testing.T) {
	t.Parallel()
	tr := &tracer{known: knownMethods(), sets: make(map[outcome]metric.MeasurementOption)}
	most := 0
	for i := range 3 * maxSets {
		tr.set(outcome{method: "GET", origin: fmt.Sprintf("https://%d.test:443", i)})
		tr.set(outcome{method: fmt.Sprintf("METHOD%d", i), origin: "https://api.test:443"})
		most = max(most, len(tr.sets))
	}
	if most != maxSets {
		t.Errorf("up to %d sets were kept, want %d", most, maxSets)
	}
	o := outcome{method: "POST", origin: "https://api.test:443", status: 503, version: "2", failure: "503"}
	want := "error.type=503,http.request.method=POST,http.response.status_code=503,network.protocol.version=2,server.address=api.test,server.port=443"
	for range 2 { // made, and kept
		set := metric.NewRecordConfig([]metric.RecordOption{tr.set(o)}).Attributes()
		if got := set.Encoded(attribute.DefaultEncoder()); got != want {
			t.Errorf("the attributes are %s, want %s", got, want)
		}
	}
}
