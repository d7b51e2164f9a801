/* libFuzzer over the judge of responses and its parsers, as C: `make fuzz`.
 *
 * The input is lines: status, what was asked, then the headers' values; see `field`. After every
 * verdict the promises of src/_response.pyx are checked, not only that nothing crashes: what
 * lands starts where it was asked for and ends within the part, nothing encoded lands, what a
 * server asks us to wait is a sane number. The text that Cython made of the judge is included
 * as it is; it never calls into Python, so none of Python's symbols has to be there (the link
 * ignores them). */
#include GENERATED

#include <math.h>

#define J(name) __pyx_f_7parpull_9_response_##name
#define K(name) __pyx_e_7parpull_9_response_##name
#define MUST(truth) do { if (!(truth)) { fprintf(stderr, "broken: %s\n", #truth); abort(); } } while (0)

static const int64_t LAST = (int64_t)1 << 60;

/* The next line as a string; NULL where the line is a lone '-' or there is none. */
static const char *field(char **rest) {
  char *line = *rest, *end;
  if (line == NULL) return NULL;
  end = strchr(line, '\n');
  *rest = end ? end + 1 : NULL;
  if (end) *end = 0;
  return strcmp(line, "-") == 0 ? NULL : line;
}

static int64_t whole(const char *text, int64_t otherwise) {
  return text == NULL ? otherwise : strtoll(text, NULL, 10);
}

/* The naive reading of a number: at most 18 digits between blanks, else -1. */
static int64_t plainly(const char *text) {
  size_t n;
  if (text == NULL) return -1;
  text += strspn(text, " \t");
  n = strspn(text, "0123456789");
  if (n == 0 || n > 18 || text[n + strspn(text + n, " \t")]) return -1;
  return strtoll(text, NULL, 10);
}

static void parsers(const char *text) {
  int64_t start = -7, stop = -7, total = -7;
  struct __pyx_t_7parpull_9_response_Verdict verdict;
  memset(&verdict, 0, sizeof verdict);
  verdict.retry_after = -1.0;
  verdict.retry_at = -1;
  if (J(content_range)(text, &start, &stop, &total)) {
    MUST((start == -1 && stop == -1) || (0 <= start && start < stop && stop <= LAST + 1));
    MUST(total == -1 || (total >= 0 && total <= LAST && total >= stop));
    MUST(strchr(text, '/') && strcasestr(text, "bytes"));
  }
  J(retry_after)(text, &verdict);
  MUST(isfinite(verdict.retry_after) && (verdict.retry_after == -1.0 || verdict.retry_after >= 0.0));
  MUST(verdict.retry_after <= (double)LAST);
  MUST(verdict.retry_after < 0 || verdict.retry_at == -1);
  /* From the year 0 to the end of 9999. */
  MUST(verdict.retry_at >= -62167219200 && verdict.retry_at <= 253402300800);
  if (plainly(text) >= 0 && plainly(text) < LAST) MUST(verdict.retry_after == (double)plainly(text));
}

/* What importing the module would have done. */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
  __pyx_v_7parpull_9_response_LIMIT = LAST;
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct __pyx_t_7parpull_9_response_Headers headers;
  struct __pyx_t_7parpull_9_response_Expect expect;
  struct __pyx_t_7parpull_9_response_Verdict verdict;
  char *copy = malloc(size + 1), *rest = copy;
  int64_t length;
  int status, flags;
  memcpy(copy, data, size);
  copy[size] = 0;
  memset(&headers, 0, sizeof headers);
  status = (int)whole(field(&rest), 206);
  flags = (int)whole(field(&rest), 0);
  expect.first = flags & 1;
  headers.twice = flags >> 1 & 1;
  headers.encoded_twice = flags >> 2 & 1;
  expect.start = whole(field(&rest), -1);
  expect.stop = whole(field(&rest), -1);
  expect.total = whole(field(&rest), -1);
  expect.etag = field(&rest);
  expect.last_modified = field(&rest);
  headers.content_range = field(&rest);
  headers.content_length = field(&rest);
  headers.content_encoding = field(&rest);
  headers.content_type = field(&rest);
  headers.etag = field(&rest);
  headers.last_modified = field(&rest);
  headers.retry_after = field(&rest);
  /* What the reactor asks: no Range at all, or a part that is not empty. */
  if (expect.start > LAST) expect.start = LAST;
  if (expect.start < 0) expect.start = -1;
  else if (expect.stop <= expect.start || expect.stop > LAST + 1) expect.stop = expect.start + 1;
  if (expect.total < 0 || expect.total > LAST) expect.total = -1;

  memset(&verdict, 0xAA, sizeof verdict);
  J(judge)(status, &headers, &expect, &verdict);

  MUST(verdict.kind >= K(LAND) && verdict.kind <= K(BROKEN));
  MUST(verdict.flaw >= K(NO_FLAW) && verdict.flaw <= K(TOTAL_DIFFERS));
  MUST(verdict.start >= -1 && verdict.stop >= -1 && verdict.total >= -1 && verdict.total <= LAST);
  MUST(isfinite(verdict.retry_after) && (verdict.retry_after == -1.0 || verdict.retry_after >= 0.0));
  length = plainly(headers.content_length);
  if (verdict.kind == K(LAND)) {
    MUST(status == 206 && verdict.flaw == K(NO_FLAW));
    MUST(expect.start >= 0 && verdict.start == expect.start);
    MUST(verdict.start < verdict.stop && verdict.stop <= expect.stop);
    MUST(headers.content_range && !headers.twice && !headers.encoded_twice);
    MUST(verdict.total < 0 || verdict.stop <= verdict.total);
    MUST(verdict.total < 0 || expect.total < 0 || verdict.total == expect.total);
    MUST(!expect.first || verdict.total >= 0 || expect.total >= 0);
    MUST(verdict.measured == (headers.content_length != NULL));
    MUST(!verdict.measured || length < 0 || length == verdict.stop - verdict.start);
    MUST(!headers.content_type || strncasecmp(headers.content_type, "multipart/", 10) != 0);
  }
  if (verdict.kind == K(STREAM)) {
    MUST((status == 200 || status == 203) && verdict.start == 0 && !headers.encoded_twice);
    MUST(expect.first || expect.start < 0);
    MUST(verdict.stop == verdict.total && verdict.total != 0);
    MUST(verdict.total < 0 || expect.total < 0 || verdict.total == expect.total);
    MUST(verdict.measured == (headers.content_length != NULL));
  }
  if (verdict.kind == K(LAND) || verdict.kind == K(STREAM)) {
    const char *coding = headers.content_encoding;
    if (coding != NULL) {
      coding += strspn(coding, " \t");
      MUST(*coding == 0 || strncasecmp(coding, "identity", 8) == 0);
    }
    /* A target with a strong tag takes no bytes under another one. */
    if (expect.etag && headers.etag && strncmp(expect.etag, "W/", 2) != 0)
      MUST(strcmp(expect.etag, headers.etag) == 0);
    if ((expect.etag || expect.last_modified) && !headers.etag) MUST(headers.last_modified && expect.last_modified);
  }
  if (verdict.kind == K(IGNORED)) MUST(!expect.first && status / 100 == 2);
  if (verdict.kind == K(PLAIN)) MUST(expect.first && expect.start >= 0);
  if (headers.content_range) parsers(headers.content_range);
  if (headers.retry_after) parsers(headers.retry_after);
  free(copy);
  return 0;
}
