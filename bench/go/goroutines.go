// The downloader that many people write first in Go: a goroutine and a range a connection, net/http,
// 1 MiB from each read, into huge pages or by WriteAt into a file. Of many small objects the URLs are
// on the command line, and the goroutines take them from a channel.
//
// goroutines -n N -size BYTES [-out FILE|DIR] URL...
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path"
	"sync"
	"syscall"
)

const block = 1 << 20

func get(client *http.Client, url string, start, stop int64) (io.ReadCloser, error) {
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return nil, err
	}
	if stop > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", start, stop-1))
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if (stop > 0) != (answer.StatusCode == 206) {
		return nil, fmt.Errorf("%s", answer.Status)
	}
	return answer.Body, nil
}

// part brings one range into memory, or into the file when there is no memory.
func part(client *http.Client, url string, memory []byte, file *os.File, start, stop int64) error {
	body, err := get(client, url, start, stop)
	if err != nil {
		return err
	}
	defer body.Close()
	if memory != nil {
		_, err = io.ReadFull(body, memory[start:stop])
		return err
	}
	buffer := make([]byte, block)
	for at := start; at < stop; {
		n, err := io.ReadFull(body, buffer[:min(block, stop-at)])
		if err != nil {
			return err
		}
		if _, err = file.WriteAt(buffer[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

func small(client *http.Client, urls <-chan string, folder string) error {
	for url := range urls {
		body, err := get(client, url, 0, 0)
		if err != nil {
			return err
		}
		data, err := io.ReadAll(body)
		body.Close()
		if err != nil {
			return err
		}
		if err = os.WriteFile(path.Join(folder, path.Base(url)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func report(memory []byte) {
	sample := make([]byte, 64)
	for i := range sample {
		sample[i] = memory[len(memory)/64*i]
	}
	fmt.Printf(`{"bytes": %d, "sample": "%s"`, len(memory), hex.EncodeToString(sample))
	if os.Getenv("BENCH_HASH") == "1" {
		fmt.Printf(`, "sha256": "%x"`, sha256.Sum256(memory))
	}
	fmt.Println("}")
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	n := flag.Int64("n", 8, "goroutines")
	size := flag.Int64("size", 0, "bytes")
	out := flag.String("out", "", "file, or folder of many")
	flag.Parse()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: int(*n), DisableCompression: true}}
	var wait sync.WaitGroup
	spawn := func(work func() error) {
		wait.Add(1)
		go func() { defer wait.Done(); must(work()) }()
	}
	if flag.NArg() > 1 {
		urls := make(chan string)
		for range *n {
			spawn(func() error { return small(client, urls, *out) })
		}
		for _, url := range flag.Args() {
			urls <- url
		}
		close(urls)
		wait.Wait()
		return
	}
	var memory []byte
	var file *os.File
	var err error
	if *out == "" {
		memory, err = syscall.Mmap(-1, 0, int(*size), syscall.PROT_READ|syscall.PROT_WRITE,
			syscall.MAP_PRIVATE|syscall.MAP_ANON)
		must(err)
		must(syscall.Madvise(memory, syscall.MADV_HUGEPAGE))
	} else {
		file, err = os.Create(*out)
		must(err)
		must(file.Truncate(*size))
	}
	step := *size / *n
	for i := range *n {
		start, stop := step*i, step*(i+1)
		if i == *n-1 {
			stop = *size
		}
		spawn(func() error { return part(client, flag.Arg(0), memory, file, start, stop) })
	}
	wait.Wait()
	if memory != nil {
		report(memory)
	}
}
