//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/thawhttp/thaw/clienttest"
	"github.com/thawhttp/thaw/transport"
)

func newDynamoDB(url string, change func(*dynamodb.Options)) *dynamodb.Client {
	options := dynamodb.Options{
		Region:      "eu-central-1",
		Credentials: creds,
		HTTPClient:  &http.Client{Transport: transport.Shared()}, // the pool of client.Default; the SDK retries
	}
	options.BaseEndpoint = &url
	return dynamodb.New(options, change)
}

func dynamoDBFunction(url string) (invocation, error) {
	api := newDynamoDB(url, func(*dynamodb.Options) {})
	table := aws.String("pies")
	return func(ctx context.Context, n int) error {
		if n == 0 {
			_, err := api.CreateTable(ctx, &dynamodb.CreateTableInput{
				TableName:            table,
				AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeN}},
				KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
				BillingMode:          types.BillingModePayPerRequest,
			})
			if err != nil {
				return err
			}
			if err := dynamodb.NewTableExistsWaiter(api, func(o *dynamodb.TableExistsWaiterOptions) {
				o.MinDelay, o.MaxDelay = 10*time.Millisecond, 10*time.Millisecond
			}).Wait(ctx, &dynamodb.DescribeTableInput{TableName: table}, 10*time.Second); err != nil {
				return err
			}
		}
		id := &types.AttributeValueMemberN{Value: strconv.Itoa(n)}
		if _, err := api.PutItem(ctx, &dynamodb.PutItemInput{TableName: table, Item: map[string]types.AttributeValue{"id": id}}); err != nil {
			return err
		}
		out, err := api.GetItem(ctx, &dynamodb.GetItemInput{TableName: table, Key: map[string]types.AttributeValue{"id": id}})
		if err == nil && len(out.Item) != 1 {
			err = fmt.Errorf("the item came back as %v", out.Item)
		}
		return err
	}, nil
}

func TestDynamoDB(t *testing.T) {
	// As the service itself, it speaks HTTP/1.1.
	survives(t, "DynamoDB", clienttest.Downstream(t, clienttest.WithProtocol(clienttest.HTTP1TLS), clienttest.WithHandler(dynalite(t))), 1)
}

func TestDynamoDBIsRetriedByItsSDKAlone(t *testing.T) {
	quick := func(o *dynamodb.Options) {
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond })
	}
	item := &dynamodb.GetItemInput{TableName: aws.String("pies"), Key: map[string]types.AttributeValue{"id": &types.AttributeValueMemberN{Value: "1"}}}

	t.Run("unavailable", func(t *testing.T) {
		d := clienttest.Downstream(t, clienttest.WithProtocol(clienttest.HTTP1))
		d.Every(clienttest.RetryLater(503, 0))
		if _, err := newDynamoDB(d.URL, quick).GetItem(t.Context(), item); err == nil {
			t.Error("answered by a service that is unavailable")
		}
		d.AssertRequests(t, 3)
		d.AssertConnections(t, 1)
	})

	// Why the SDK's retryer is the better one here: throttling is an error 400, of which only the SDK knows, and all
	// requests have bodies.
	t.Run("throttled", func(t *testing.T) {
		d := clienttest.Downstream(t, clienttest.WithProtocol(clienttest.HTTP1), clienttest.WithHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}`)
		})))
		if _, err := newDynamoDB(d.URL, quick).GetItem(t.Context(), item); err == nil {
			t.Error("answered by a service that throttles")
		}
		d.AssertRequests(t, 3)
		d.AssertConnections(t, 1)
	})
}
