import type { GuestRequestEvents } from './guest-requests.ts';
import type { GhcbHost } from './host.ts';
import type { PageStates } from './page-state.ts';
import type { Transfers } from './transfers.ts';

/** What handlers of events work with. */
export interface EventParts {
  readonly host: GhcbHost;
  readonly pages: PageStates;
  readonly transfers: Transfers;
  readonly requests: GuestRequestEvents;
}
