import { hostileGuests } from './guests.ts';

hostileGuests(1000);
