package lambdatest

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// region and account are those of the emulated function, version its only version.
const (
	region  = "us-east-1"
	account = "123456789012"
	version = "$LATEST"
	handler = "bootstrap"
)

// inherited are the variables of the caller that the process gets: those that programs need to run at all, and
// those by which the Go toolchain collects coverage and sets up the race detector.
var inherited = []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR", "GORACE"}

// environ returns the environment of the process. Later entries override earlier ones (os/exec sees to it).
func (c Config) environ(runtimeAPI string) []string {
	root := c.Dir
	if root == "" {
		root = filepath.Dir(c.Path)
	}
	// An empty slice would make os/exec pass on the environment of the caller; this one never is.
	env := []string{
		"_HANDLER=" + handler,
		"AWS_LAMBDA_FUNCTION_NAME=" + c.FunctionName,
		"AWS_LAMBDA_FUNCTION_VERSION=" + version,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=" + strconv.Itoa(c.MemoryMB),
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/" + c.FunctionName,
		"AWS_LAMBDA_LOG_STREAM_NAME=" + time.Now().UTC().Format("2006/01/02") + "/[" + version + "]" + randomHex(16),
		"AWS_REGION=" + region,
		"AWS_DEFAULT_REGION=" + region,
		// Placeholders: an SDK that finds them looks no further, neither in files below HOME nor on the network.
		"AWS_ACCESS_KEY_ID=lambdatest",
		"AWS_SECRET_ACCESS_KEY=lambdatest",
		"AWS_SESSION_TOKEN=lambdatest",
		"AWS_XRAY_CONTEXT_MISSING=LOG_ERROR",
		"LAMBDA_TASK_ROOT=" + root,
		"LAMBDA_RUNTIME_DIR=/var/runtime",
		"LANG=en_US.UTF-8",
		"TZ=:UTC",
	}
	for _, key := range inherited {
		if value, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+value)
		}
	}
	env = append(env, c.Env...)
	env = append(env, apiVariable+"="+runtimeAPI)
	if c.Concurrency > 1 {
		env = append(env, concurrencyVariable+"="+strconv.Itoa(c.Concurrency))
	}
	return env
}

func (c Config) arn() string {
	return "arn:aws:lambda:" + region + ":" + account + ":function:" + c.FunctionName
}

// freshTrace returns the header of a new, sampled trace, in the form that the page "AWS X-Ray concepts" of the
// X-Ray Developer Guide gives.
func freshTrace() string {
	return fmt.Sprintf("Root=1-%08x-%s;Parent=%s;Sampled=1", time.Now().Unix(), randomHex(12), randomHex(8))
}

// newUUID returns a random UUID (RFC 9562, version 4): the form of request and extension identifiers.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: see crypto/rand
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// randomHex returns n random bytes in hexadecimal.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: see crypto/rand
	return fmt.Sprintf("%x", b)
}
