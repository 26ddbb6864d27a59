import { EventEmitter } from 'eventemitter3';

/**
 * An emitter that knows whether anyone listens: emission on hot paths is guarded by {@link observed}, one boolean
 * refreshed when listeners change, so that an unobserved event costs a test and allocates nothing.
 */
export class ObservedEmitter<Events extends EventEmitter.ValidEventTypes> extends EventEmitter<Events> {
  protected observed = false;

  #refresh(): this {
    this.observed = this.eventNames().length > 0;
    return this;
  }
  override on<T extends EventEmitter.EventNames<Events>>(event: T, listener: EventEmitter.EventListener<Events, T>, context?: unknown): this {
    super.on(event, listener, context);
    return this.#refresh();
  }
  override addListener<T extends EventEmitter.EventNames<Events>>(event: T, listener: EventEmitter.EventListener<Events, T>, context?: unknown): this {
    return this.on(event, listener, context);
  }
  override once<T extends EventEmitter.EventNames<Events>>(event: T, listener: EventEmitter.EventListener<Events, T>, context?: unknown): this {
    super.once(event, listener, context);
    return this.#refresh();
  }
  override removeListener<T extends EventEmitter.EventNames<Events>>(event: T, listener?: EventEmitter.EventListener<Events, T>, context?: unknown, once?: boolean): this {
    super.removeListener(event, listener, context, once);
    return this.#refresh();
  }
  override off<T extends EventEmitter.EventNames<Events>>(event: T, listener?: EventEmitter.EventListener<Events, T>, context?: unknown, once?: boolean): this {
    return this.removeListener(event, listener, context, once);
  }
  override removeAllListeners(event?: EventEmitter.EventNames<Events>): this {
    super.removeAllListeners(event);
    return this.#refresh();
  }
}
