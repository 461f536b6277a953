// A server and clients of Go's own library: `serve PORT`, or `SERVER PORT`.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"time"
)

func serve(port string) error {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		w.Header().Set("Trailer", "X-Length")
		fmt.Fprintf(w, "%s %s from %s %d %v %q", r.Method, r.URL, host, len(body), r.TransferEncoding, r.Trailer)
		w.Header().Set("X-Length", fmt.Sprint(len(body)))
	})
	// Says that the request was given up, which its handler is told.
	http.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		fmt.Println("slow given up")
	})
	http.HandleFunc("/flush", func(w http.ResponseWriter, r *http.Request) {
		for part := 0; part < 3; part++ {
			fmt.Fprintf(w, "part %d\n", part)
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	})
	return http.ListenAndServe(":"+port, nil)
}

func ask(method, url string, body io.Reader) {
	reused := false
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }}
	request, _ := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), method, url, body)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		fmt.Println(method, err)
		return
	}
	text, err := io.ReadAll(response.Body)
	fmt.Println(response.Status, response.ContentLength, string(text), err, reused)
}

func giveUp(url string) {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	request, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
	_, err := http.DefaultClient.Do(request)
	fmt.Println(err)
}

func many(url string) {
	var group sync.WaitGroup
	for i := 0; i < 50; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			response, err := http.Get(url)
			if err != nil || response.StatusCode != 200 {
				fmt.Println(err)
				return
			}
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}()
	}
	group.Wait()
}

func main() {
	if os.Args[1] == "serve" {
		fmt.Println(serve(os.Args[2]))
		return
	}
	url := "http://" + net.JoinHostPort(os.Args[1], os.Args[2])
	ask("GET", url+"/get?a=b", nil)
	ask("POST", url+"/post", bytes.NewReader(make([]byte, 1_000_000)))
	// Its length isn't known: chunks.
	ask("PUT", url+"/put", io.MultiReader(strings.NewReader(strings.Repeat("a", 100_000))))
	ask("HEAD", url+"/head", nil)
	ask("GET", url+"/flush", nil)
	giveUp(url + "/slow")
	many(url + "/many")
}
