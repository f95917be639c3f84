// A program on the client that was generated for Go.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	client "example.com/crossfade/client"
)

var (
	url, key, conversation = os.Args[1], os.Args[2], os.Args[3]
	deadline               = time.Now().Add(60 * time.Second)
	withKey                = context.WithValue(context.Background(), client.ContextAccessToken, key)
)

// In bytes, which no client counts.
var tooLong = strings.Repeat("\u00e9", 40_000)

type object = map[string]any

func message(key, content string) client.MessageRequest {
	one := client.NewMessageRequest(conversation, "sender", content)
	one.SetClientMessageId(key)
	return *one
}

func must[T any](value T, _ any, err error) T {
	if err != nil {
		if told, ok := err.(*client.GenericOpenAPIError); ok {
			panic(fmt.Sprintf("%v: %s", err, told.Body()))
		}
		panic(err)
	}
	return value
}

func refused(err error) client.Problem {
	told, ok := err.(*client.GenericOpenAPIError)
	if !ok {
		panic(fmt.Sprint("it was not refused: ", err))
	}
	problem, ok := told.Model().(client.Problem)
	if !ok {
		panic(fmt.Sprintf("no problem: %s", told.Body()))
	}
	return problem
}

func until(done func() bool) {
	for !done() {
		if time.Now().After(deadline) {
			panic("too late")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func main() {
	configuration := client.NewConfiguration()
	configuration.Servers = client.ServerConfigurations{{URL: url}}
	api := client.NewAPIClient(configuration)
	post := func(ctx context.Context, one client.MessageRequest) (*client.Ack, any, error) {
		return api.MessagesAPI.PostMessage(ctx).MessageRequest(one).Execute()
	}
	batch := func(several ...client.MessageRequest) []client.BatchResult {
		return must(api.MessagesAPI.PostMessages(withKey).MessageRequest(several).Execute())
	}

	first := must(post(withKey, message("1", "Hello")))
	until(func() bool {
		one := must(api.MessagesAPI.GetMessage(withKey, first.MessageId).Execute())
		return one.State == "persisted"
	})
	repeat := must(post(withKey, message("1", "Hello")))
	receipt := must(api.ReceiptsAPI.PostReceipt(withKey, first.MessageId).
		ReceiptRequest(*client.NewReceiptRequest("reader", "read")).Execute())
	var listed *client.ReceiptList
	until(func() bool {
		listed = must(api.ReceiptsAPI.ListReceipts(withKey, first.MessageId).Execute())
		return len(listed.Items) > 0
	})
	results := batch(
		message("2", "Hello"), message("x", tooLong), message("3", "Hello"))
	batch(message("4", "Hello"))
	batch(message("5", "Hello"))
	_, _, err := post(withKey, message("1", "other"))
	conflict := refused(err)
	_, _, err = post(withKey, message("6", tooLong))
	invalid := refused(err)
	_, _, err = api.MessagesAPI.GetMessage(withKey, "00000000-0000-8000-8000-000000000001").Execute()
	missing := refused(err)

	var pages [][]string
	until(func() bool {
		pages = nil
		total, after := 0, ""
		for {
			asked := api.MessagesAPI.ListMessages(withKey, conversation).Limit(2)
			if after != "" {
				asked = asked.After(after)
			}
			page := must(asked.Execute())
			var keys []string
			for _, one := range page.Items {
				keys = append(keys, one.ClientMessageId)
			}
			pages, total = append(pages, keys), total+len(keys)
			if !page.HasMore {
				return total >= 5
			}
			after = page.GetNext()
		}
	})
	number := must(api.DeadLettersAPI.ListDeadLetters(withKey).Execute()).Items[0].Id
	letter := must(api.DeadLettersAPI.GetDeadLetter(withKey, number).Execute())
	choice := client.NewRedriveRequest()
	choice.SetIds([]int64{number})
	choice.SetDryRun(true)
	preview := must(api.DeadLettersAPI.RedriveDeadLetters(withKey).RedriveRequest(*choice).Execute())
	_, _, err = post(context.Background(), message("7", "Hello"))
	keyless := refused(err)

	var receipts []object
	for _, one := range listed.Items {
		receipts = append(receipts, object{"user": one.UserId, "state": one.State})
	}
	var items []object
	for _, one := range results {
		if one.AckResult != nil {
			items = append(items, object{"kind": one.AckResult.Kind, "status": one.AckResult.Status})
		} else {
			problem := one.ProblemResult
			items = append(items, object{
				"kind": problem.Kind, "status": problem.Status, "field": problem.Errors[0].Field,
			})
		}
	}
	json.NewEncoder(os.Stdout).Encode(object{
		"first": object{
			"id": first.MessageId, "state": first.State, "hit": first.IdempotentHit,
			"at": first.AcceptedAt,
		},
		"repeat":   object{"id": repeat.MessageId, "hit": repeat.IdempotentHit, "at": repeat.AcceptedAt},
		"receipt":  object{"state": receipt.State, "hit": receipt.IdempotentHit},
		"receipts": receipts,
		"batch":    items,
		"conflict": object{
			"status": conflict.Status, "type": conflict.Type, "title": conflict.Title,
			"detail": conflict.Detail, "correlationId": conflict.GetCorrelationId(),
		},
		"invalid": object{
			"status": invalid.Status, "field": invalid.Errors[0].Field,
			"remedy": invalid.Errors[0].Remedy != "",
		},
		"missing": object{"status": missing.Status, "type": missing.Type},
		"pages":   pages,
		"letter":  object{"id": letter.Id, "reason": letter.Reason, "state": letter.State},
		"preview": preview.GetLetters(),
		"keyless": keyless.Status,
	})
}
