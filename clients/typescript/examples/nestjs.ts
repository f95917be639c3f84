/**
 * In a NestJS application: one client for the whole application, and a service that sends.
 *
 *     CROSSFADE_URL=http://localhost:3000 CROSSFADE_API_KEY=cf_... npm start
 */
import { Client, NewMessage } from "@crossfade/client";
import { Injectable, Module } from "@nestjs/common";

@Injectable()
export class Orders {
  constructor(private readonly crossfade: Client) {}

  /** Tell the customer that an order was paid. `eventId` is the id of its row in the outbox. */
  async paid(orderId: string, eventId: string): Promise<string> {
    const ack = await this.crossfade.send(
      new NewMessage({
        conversationId: `order-${orderId}`,
        senderId: "orders",
        content: JSON.stringify({ paid: true }),
        contentType: "application/json",
        // The same event is stored once, also when this process dies before it is marked as sent.
        clientMessageId: eventId,
      }),
    );
    return ack.messageId;
  }
}

@Module({
  providers: [{ provide: Client, useFactory: () => new Client() }, Orders],
  exports: [Orders],
})
export class OrdersModule {}
