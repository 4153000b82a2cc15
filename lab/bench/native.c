/* The same turn in C: what this machine can do when the language costs nothing.
 *
 *   native serve PREFETCH NAME    take what has arrived, one INSERT, one ack; until killed
 *   native publish COUNT          publish with a window of 1,000 unconfirmed requests
 *
 * AMQP_URL names the broker (virtual host included); DB_HOST, DB_PORT, DB_USER, DB_PASSWORD and
 * DB_NAME the database. It reads only what our own producer writes, and any error ends it: it is
 * no worker, but the floor that a worker is measured against.
 */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <mysql.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define WINDOW 1000
#define BATCH_BYTES (400 * 1024)
#define CHANNEL 1

static amqp_connection_state_t broker;

static void fail(const char *what, const char *why) {
  fprintf(stderr, "native: %s: %s\n", what, why);
  exit(1);
}

static void check(const char *what, amqp_rpc_reply_t reply) {
  if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
  if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
    fail(what, amqp_error_string2(reply.library_error));
  /* Both closes begin with code and text. */
  amqp_connection_close_t *close = reply.reply.decoded;
  fail(what, strndup(close->reply_text.bytes, close->reply_text.len));
}

static void answered(const char *what) { check(what, amqp_get_rpc_reply(broker)); }

static void connect_broker(void) {
  static char url[1024];
  struct amqp_connection_info info;
  snprintf(url, sizeof url, "%s", getenv("AMQP_URL"));
  if (amqp_parse_url(url, &info) != AMQP_STATUS_OK) fail("AMQP_URL", "not a URL");
  broker = amqp_new_connection();
  amqp_socket_t *socket = amqp_tcp_socket_new(broker);
  if (amqp_socket_open(socket, info.host, info.port)) fail("connect", info.host);
  check("login", amqp_login(broker, info.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, info.user,
                            info.password));
  amqp_channel_open(broker, CHANNEL);
  answered("channel");
}

/* -- serve --------------------------------------------------------------------------------- */

static MYSQL *database;
static char *statement;
static size_t used, room;

static void append(const char *text, size_t length) {
  if (used + length > room) {
    room = 2 * (used + length);
    statement = realloc(statement, room);
  }
  memcpy(statement + used, text, length);
  used += length;
}

static void append_quoted(const char *text, size_t length) {
  char escaped[2 * length + 3];
  size_t written = mysql_real_escape_string(database, escaped + 1, text, length);
  escaped[0] = escaped[written + 1] = '\'';
  append(escaped, written + 2);
}

/* Find what follows "key": in the body; our producer writes no blanks. */
static const char *field(const char *body, const char *end, const char *key) {
  size_t length = strlen(key);
  for (const char *at = body; at + length < end; at++)
    if (!memcmp(at, key, length)) return at + length;
  fail("body", key);
  return NULL;
}

/* Read a JSON string into `text`; return its length. The bench sends no escape but \" and \\. */
static size_t string(const char *from, const char *end, char *text) {
  size_t length = 0;
  for (from++; from < end && *from != '"'; from++) {
    if (*from == '\\') from++;
    text[length++] = *from;
  }
  return length;
}

static void append_row(amqp_bytes_t body, const char *name, size_t name_length) {
  const char *bytes = body.bytes, *end = bytes + body.len;
  char text[body.len];
  append(used ? ",(" : "(", used ? 2 : 1);
  append_quoted(text, string(field(bytes, end, "\"client\":"), end, text));
  append(",", 1);
  const char *counter = field(bytes, end, "\"counter\":");
  append(counter, strspn(counter, "0123456789"));
  append(",", 1);
  append_quoted(text, string(field(bytes, end, "\"message\":"), end, text));
  append(",", 1);
  size_t length = string(field(bytes, end, "\"sent_at\":"), end, text);
  text[10] = ' ';
  append_quoted(text, length - 1); /* without the Z */
  append(",UTC_TIMESTAMP(6),", 18);
  append_quoted(name, name_length);
  append(")", 1);
}

static void store(void) {
  static const char insert[] =
      "INSERT INTO requests (client, counter, message, sent_at, served_at, served_by) VALUES ";
  static char *query;
  static size_t size;
  size_t length = sizeof insert - 1 + used;
  if (length > size) query = realloc(query, size = 2 * length);
  memcpy(query, insert, sizeof insert - 1);
  memcpy(query + sizeof insert - 1, statement, used);
  if (mysql_real_query(database, query, length)) fail("INSERT", mysql_error(database));
  used = 0;
}

static void serve(const char *name, int prefetch) {
  database = mysql_init(NULL);
  mysql_options(database, MYSQL_SET_CHARSET_NAME, "utf8mb4");
  if (!mysql_real_connect(database, getenv("DB_HOST"), getenv("DB_USER"), getenv("DB_PASSWORD"),
                          getenv("DB_NAME"), atoi(getenv("DB_PORT")), NULL, 0))
    fail("database", mysql_error(database));
  connect_broker();
  amqp_basic_qos(broker, CHANNEL, 0, prefetch, 0);
  answered("qos");
  amqp_basic_consume(broker, CHANNEL, amqp_cstring_bytes("requests"), amqp_cstring_bytes(name), 0,
                     0, 0, amqp_empty_table);
  answered("consume");
  printf("{\"event\": \"worker.consuming\"}\n");
  fflush(stdout);
  struct timeval now = {0, 0};
  for (;;) {
    uint64_t last = 0;
    for (int taken = 0; taken < prefetch && used < BATCH_BYTES; taken++) {
      amqp_envelope_t envelope;
      amqp_maybe_release_buffers(broker);
      amqp_rpc_reply_t reply = amqp_consume_message(broker, &envelope, taken ? &now : NULL, 0);
      if (reply.reply_type != AMQP_RESPONSE_NORMAL) {
        if (taken && reply.library_error == AMQP_STATUS_TIMEOUT) break;
        fail("consume", amqp_error_string2(reply.library_error));
      }
      append_row(envelope.message.body, name, strlen(name));
      last = envelope.delivery_tag;
      amqp_destroy_envelope(&envelope);
    }
    store();
    if (amqp_basic_ack(broker, CHANNEL, last, 1)) fail("ack", "not sent");
  }
}

/* -- publish ------------------------------------------------------------------------------- */

static char is_confirmed[WINDOW]; /* by number modulo WINDOW, above `below` */
static uint64_t below;            /* all up to this number are confirmed */

/* Wait for one confirm, of a request or of all up to it. */
static void wait_confirm(void) {
  amqp_frame_t frame;
  amqp_maybe_release_buffers(broker);
  int status = amqp_simple_wait_frame(broker, &frame);
  if (status) fail("confirm", amqp_error_string2(status));
  if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
    fail("confirm", "returned, refused or closed");
  amqp_basic_ack_t *ack = frame.payload.method.decoded;
  for (uint64_t tag = ack->multiple ? below + 1 : ack->delivery_tag; tag <= ack->delivery_tag; tag++)
    is_confirmed[tag % WINDOW] = 1;
  while (is_confirmed[(below + 1) % WINDOW]) is_confirmed[++below % WINDOW] = 0;
}

static void publish(uint64_t count) {
  connect_broker();
  amqp_confirm_select(broker, CHANNEL);
  answered("confirms");
  printf("begun\n");
  fflush(stdout);
  for (uint64_t number = 1; number <= count; number++) {
    while (number - below > WINDOW) wait_confirm();
    char body[256], id[80];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    int length = snprintf(body, sizeof body,
                          "{\"client\":\"native\",\"counter\":%llu,\"message\":\"hello\",\"sent_at\":"
                          "\"%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ\"}",
                          (unsigned long long)number, utc.tm_year + 1900, utc.tm_mon + 1,
                          utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, now.tv_nsec / 1000);
    snprintf(id, sizeof id, "native/%llu", (unsigned long long)number);
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                  AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_TYPE_FLAG,
        .content_type = amqp_cstring_bytes("application/json"),
        .delivery_mode = AMQP_DELIVERY_PERSISTENT,
        .message_id = amqp_cstring_bytes(id),
        .timestamp = (uint64_t)now.tv_sec,
        .type = amqp_cstring_bytes("request")};
    amqp_bytes_t bytes = {.len = (size_t)length, .bytes = body};
    if (amqp_basic_publish(broker, CHANNEL, amqp_cstring_bytes("requests"),
                           amqp_cstring_bytes("requests"), 1, 0, &properties, bytes))
      fail("publish", "not sent");
  }
  while (below < count) wait_confirm();
  printf("confirmed\n");
}

int main(int argc, char **argv) {
  if (argc == 4 && !strcmp(argv[1], "serve")) serve(argv[3], atoi(argv[2]));
  if (argc == 3 && !strcmp(argv[1], "publish")) {
    publish(strtoull(argv[2], NULL, 10));
    return 0;
  }
  fprintf(stderr, "native serve PREFETCH NAME | native publish COUNT\n");
  return 2;
}
