"""A client of the library pika: `SERVER PORT NAME`."""

import sys
import threading

import pika


def connect(server, port, name):
    return pika.BlockingConnection(pika.ConnectionParameters(
        server, int(port), heartbeat=1, client_properties={"connection_name": name}))


def main(server, port, name):
    connection = connect(server, port, name)
    channel = connection.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue
    large = bytes(range(256)) * 8192
    for body in [b"hello", large]:
        channel.basic_publish("", queue, body)
    # Silent for several heartbeats' time.
    connection.sleep(4)
    print([channel.basic_get(queue)[2] == body for body in [b"hello", large]])
    # A consumer on another connection gets what this one publishes.
    got = []
    consumer = connect(server, port, name + "_consumer")
    receiving = consumer.channel()
    receiving.exchange_declare(name, "fanout", auto_delete=True)
    bound = receiving.queue_declare("", exclusive=True).method.queue
    receiving.queue_bind(bound, name)
    receiving.basic_qos(prefetch_count=10)

    def take(channel, method, _properties, body):
        got.append(body)
        channel.basic_ack(method.delivery_tag)
        if len(got) == 500:
            channel.stop_consuming()

    receiving.basic_consume(bound, take)
    consuming = threading.Thread(target=receiving.start_consuming)
    consuming.start()
    for number in range(500):
        channel.basic_publish(name, "", b"%d" % number)
    consuming.join()
    print(got == [b"%d" % number for number in range(500)])
    consumer.close()
    try:
        channel.queue_declare("none" + name, passive=True)
    except pika.exceptions.ChannelClosedByBroker as error:
        print(error.reply_code)
    connection.close()


main(*sys.argv[1:])
