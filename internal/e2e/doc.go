// Package e2e has no code of its own. Its tests run real SDKs, unchanged, over client.Default in a Lambda function that
// is frozen, against real or emulated services on loopback. The code of docs/sdks.md is theirs.
package e2e
